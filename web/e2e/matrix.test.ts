// The matrix of an experiment's jobs: by keyboard, in bulk, while it changes, and with a hundred thousand jobs.

import type { Page } from 'playwright-core';
import { expect, test } from 'vitest';

import { eventually, expectNotReloaded, expectSound, mark, visit } from './browser';
import type { Schemas } from './coordinator';
import { browser, coordinator, worker } from './stage';

/// An experiment of two methods with three seeds on a data set, and its matrix.
async function open(dataset: string) {
  const { id } = await coordinator.submit({ name: dataset, protocol: 'base_to_new', methods: ['alignednorm', 'coop'], datasets: [dataset], seeds: [1, 2, 3] });
  const seen = await visit(browser, `${coordinator.url}/experiments/${id}`);
  await matrix(seen.page).waitFor();
  return { ...seen, id };
}

const matrix = (page: Page) => page.getByRole('application', { name: /^Matrix of/ });
const cell = (page: Page, words: string) => page.getByRole('status').getByText(words, { exact: true });
const counted = (page: Page, state: string, number: number) => page.getByRole('button', { name: new RegExp(`^${state} ${number}$`) });

/// Comes to it as who has no mouse does.
async function tabToMatrix(page: Page) {
  await page.getByRole('button', { name: /^cancelled/ }).focus();
  await eventually(async () => {
    await page.keyboard.press('Tab');
    return matrix(page).evaluate((node) => node === document.activeElement);
  }).toBe(true);
}

test('the keyboard goes from cell to cell, selects and opens', async () => {
  const seen = await open('dtd');
  const { page } = seen;
  expect(await matrix(page).getAttribute('aria-label')).toBe('Matrix of 2 rows and 6 columns');
  await tabToMatrix(page);
  await cell(page, 'AlignedNorm, dtd, seed 1, train: queued').waitFor();
  await page.keyboard.press('ArrowRight');
  await cell(page, 'AlignedNorm, dtd, seed 1, test: blocked').waitFor();
  await page.keyboard.press('ArrowDown');
  await cell(page, 'CoOp, dtd, seed 1, test: blocked').waitFor();
  await page.keyboard.press('End');
  await cell(page, 'CoOp, dtd, seed 3, test: blocked').waitFor();
  await page.keyboard.press('ArrowLeft');
  await page.keyboard.press(' ');
  await cell(page, 'CoOp, dtd, seed 3, train: queued, selected').waitFor();
  await page.getByText('1 selected').waitFor();
  await page.keyboard.press(' ');
  await page.getByText('0 selected').waitFor();
  await page.keyboard.press('Home');
  await page.keyboard.press('Shift+ArrowRight');
  await page.keyboard.press('Shift+ArrowUp');
  // Two rows and two columns.
  await page.getByText('4 selected').waitFor();
  await expectSound(seen);
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('ArrowLeft');
  await cell(page, 'CoOp, dtd, seed 1, train: queued, selected').waitFor();
  await page.keyboard.press('Enter');
  await page.waitForURL(/\/jobs\/\d+$/);
  await page.getByText('train coop on dtd, 16 shots, seed 1').first().waitFor();
  // Back is the matrix again.
  await page.goBack();
  await matrix(page).waitFor();
});

test('many jobs are cancelled and retried at once, after a question', async () => {
  const seen = await open('eurosat');
  const { page } = seen;
  await mark(page);
  await counted(page, 'queued', 6).click();
  await page.getByRole('button', { name: 'Select what stands out' }).click();
  await page.getByText('6 selected').waitFor();
  await page.getByRole('button', { name: 'Cancel 6 …' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByText('Cancel 6 jobs, and the tests of their checkpoints with them?').waitFor();
  await expectSound(seen);
  await dialog.getByRole('button', { name: 'Cancel 6' }).click();
  // Those that can't be tested without them are cancelled too.
  await page.getByRole('status').getByText('12 jobs were cancelled.').waitFor();
  await counted(page, 'cancelled', 12).waitFor();
  await counted(page, 'queued', 0).waitFor();

  await page.getByRole('button', { name: 'Retry 6' }).click();
  await page.getByRole('status').getByText(/jobs were queued again/).waitFor();
  await counted(page, 'queued', 6).waitFor();
  await expectNotReloaded(page);
});

test('cells change their colour as their jobs change, without a reload', async () => {
  const { page, complaints } = await open('ucf101');
  await mark(page);
  await tabToMatrix(page);
  await cell(page, 'AlignedNorm, ucf101, seed 1, train: queued').waitFor();
  const drawn = () => page.locator('canvas').last().evaluate((node) => (node as HTMLCanvasElement).toDataURL());
  const before = await drawn();
  await eventually(drawn).toBe(before);
  const held = await worker.work(() => null);
  await eventually(() => counted(page, 'queued', 0).count()).toBe(1);
  const first = held.find(({ spec }) => spec.method === 'alignednorm' && spec.seed === 1 && spec.dataset === 'ucf101');
  if (first !== undefined) await worker.complete(first, 80);
  await cell(page, 'AlignedNorm, ucf101, seed 1, train: completed').waitFor();
  await counted(page, 'completed', 1).waitFor();
  expect(await drawn()).not.toBe(before);
  await expectNotReloaded(page);
  expect(complaints).toEqual([]);
});

test('a hundred thousand jobs are scrolled at more than 30 frames a second', async () => {
  // 4 methods that learn × 2 data sets × training and test, and 4 of the one that doesn't.
  const seeds = Array.from({ length: 6250 }, (_, i) => i + 1);
  const methods = ['alignednorm', 'mmrlpp', 'mmrl', 'coop', 'zero_shot'];
  const began = Date.now();
  // No worker has the label: the jobs stay where they are.
  const document = { name: 'many', protocol: 'base_to_new', methods, datasets: ['food101', 'sun397'], seeds, shots: [16], labels: ['none'] };
  const { id, counts } = await coordinator.submit(document);
  const submitted = Date.now() - began;
  expect(counts.queued + counts.blocked).toBe(100_004);
  const { page, complaints } = await visit(browser, `${coordinator.url}/experiments/${id}`);
  await matrix(page).waitFor();
  const shown = Date.now() - began - submitted;
  const frames = await matrix(page).evaluate((node) => new Promise<number[]>((resolve) => {
    const times: number[] = [];
    let last = performance.now();
    const step = (now: number) => {
      times.push(now - last);
      last = now;
      if (times.length > 150) {
        resolve(times.slice(1));
        return;
      }
      node.scrollBy(53, times.length % 2 === 0 ? 5 : -5);
      requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }));
  expect(await matrix(page).evaluate((node) => node.scrollLeft)).toBeGreaterThan(5000);
  const sorted = [...frames].sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.floor(sorted.length * share)] ?? Infinity;
  console.log(`matrix of 100 004 jobs: submitted in ${submitted} ms, shown after ${shown} ms; frames of ${at(0.5).toFixed(1)} ms in the median, ${at(0.95).toFixed(1)} ms at the 95th percentile`);
  expect(at(0.5)).toBeLessThan(1000 / 30);

  // It is as quick to tell where one is.
  await tabToMatrix(page);
  await page.keyboard.press('Control+End');
  await page.getByRole('status').getByText(/CLIP|CoOp/).waitFor();
  expect(complaints).toEqual([]);
  await page.context().close();
});

test('jobs that failed stand out when they are asked for', async () => {
  const { id } = await coordinator.submit({ name: 'failing', protocol: 'base_to_new', methods: ['zero_shot'], datasets: ['oxford_pets'] });
  const held = await worker.work(() => null);
  for (const grant of held.filter(({ spec }) => spec.dataset === 'oxford_pets')) await worker.fail(grant, 'no');
  const { page } = await visit(browser, `${coordinator.url}/experiments/${id}?state=failed`);
  await counted(page, 'failed', 2).waitFor();
  expect(await counted(page, 'failed', 2).getAttribute('aria-pressed')).toBe('true');
  await page.getByRole('button', { name: 'Select what stands out' }).click();
  await page.getByRole('button', { name: 'Retry 2' }).click();
  await page.getByRole('status').getByText('2 jobs were queued again.').waitFor();
  const { counts } = await coordinator.ask<Schemas['ExperimentDetail']>('GET', `/experiments/${id}`);
  expect(counts.queued).toBe(2);
});
