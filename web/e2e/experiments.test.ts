// Experiments put together by the form, and what is done with them.

import type { Locator, Page } from 'playwright-core';
import { expect, test } from 'vitest';

import { eventually, expectNotReloaded, expectSound, mark, textOf, visit } from './browser';
import type { Schemas } from './coordinator';
import { browser, coordinator, worker } from './stage';

const detail = (id: number) => coordinator.ask<Schemas['ExperimentDetail']>('GET', `/experiments/${id}`);

async function form() {
  const seen = await visit(browser, `${coordinator.url}/experiments/new`);
  await seen.page.getByLabel('Name').waitFor();
  return seen;
}

/// What is said below a field.
const about = (field: Locator) => field.evaluate((node) => document.getElementById(node.getAttribute('aria-describedby') ?? '')?.textContent?.trim() ?? '');

const preview = (page: Page) => page.getByRole('complementary', { name: 'What it would be' }).getByRole('status').first();

test('the form says what an experiment would be, and submits it', async () => {
  const seen = await form();
  const { page } = seen;
  await page.getByLabel('Name').fill('by hand');
  await page.getByLabel('CoOp').check();
  await page.getByLabel('CLIP (zero-shot)').check();
  await page.getByRole('checkbox', { name: /^dtd/ }).check();
  await page.getByRole('checkbox', { name: /^eurosat/ }).check();
  await page.getByRole('textbox', { name: 'Seeds' }).fill('1 2');
  await page.getByLabel('Backbone').fill('ViT-B/16');
  // 2 data sets × (2 seeds × training and test, and base and new of what learns nothing).
  await eventually(() => textOf(preview(page))).toMatch(/^12 jobs, 12 of them new/);
  await page.getByRole('button', { name: 'Add an override' }).click();
  await page.getByRole('group', { name: 'an override 1' }).getByLabel('Hyper-parameter').selectOption('epochs');
  await page.getByRole('group', { name: 'an override 1' }).getByLabel('Value').fill('3');
  await page.getByText('Show as TOML').click();
  await eventually(() => page.getByRole('region', { name: 'The experiment as TOML' }).innerText()).toMatch(/epochs = 3/);
  await expectSound(seen);
  await page.getByRole('button', { name: 'Submit' }).click();
  await page.waitForURL(/\/experiments\/\d+$/);
  await page.getByRole('heading', { name: 'by hand' }).waitFor();
  const id = Number(page.url().split('/').at(-1));
  const { experiment } = await detail(id);
  expect(experiment).toMatchObject({ name: 'by hand', methods: ['coop', 'zero_shot'], seeds: [1, 2], backbone: 'ViT-B/16', overrides: { epochs: 3 } });

  // The same again would be nothing new, and what is complete is counted.
  await worker.work(() => 70);
  await page.getByRole('link', { name: 'Clone' }).click();
  await eventually(() => textOf(preview(page))).toMatch(/^12 jobs, 0 of them new There already: 12 completed/);
  await eventually(() => textOf(preview(page))).toMatch(/Nothing is left to compute/);
});

test('what the coordinator refuses stands at its field', async () => {
  const seen = await form();
  const { page } = seen;
  // Nobody is blamed for a form that is not filled yet.
  await eventually(() => textOf(preview(page))).toMatch(/^It is not complete yet: name, methods, datasets/);
  expect(await page.getByText(/expected/).count()).toBe(0);
  await page.getByRole('button', { name: 'Submit' }).click();
  const name = page.getByLabel('Name');
  await eventually(() => name.getAttribute('aria-invalid')).toBe('true');
  expect(await about(name)).toMatch(/^expected/);
  expect(await name.evaluate((node) => node === document.activeElement)).toBe(true);
  expect(await about(page.getByRole('group', { name: 'Methods' }))).toMatch(/expected/);
  await expectSound(seen);

  await name.fill('mended');
  await eventually(() => name.getAttribute('aria-invalid')).toBe(null);
  const seeds = page.getByRole('textbox', { name: 'Seeds' });
  await seeds.fill('1, 2, two');
  await eventually(() => about(seeds)).toMatch(/two is not valid; expected/);
  await seeds.fill('1, 2');
  const backbone = page.getByLabel('Backbone');
  await backbone.fill('ViT-Z');
  await eventually(() => about(backbone)).toMatch(/ViT-Z is not valid; expected .*clip-mini/);
  await backbone.fill('clip-mini');
  await eventually(() => backbone.getAttribute('aria-invalid')).toBe(null);
  await seeds.fill('1, 1');
  await page.getByRole('button', { name: 'Submit' }).click();
  await eventually(() => seeds.getAttribute('aria-invalid')).toBe('true');
  expect(page.url()).toMatch(/experiments\/new$/);
});

test('an experiment is cloned and changed', async () => {
  const { id } = await coordinator.submit({
    name: 'first', protocol: 'cross_dataset', source: 'imagenet', methods: ['mmrl'], datasets: ['sun397', 'imagenet_a'], seeds: [4, 5], shots: [8],
    priority: 3, max_running: 2, labels: ['a100'], overrides: { epochs: 2 }, sweep: { lr: [0.1, 0.2] },
  });
  const { page } = await visit(browser, `${coordinator.url}/experiments`);
  await page.getByRole('link', { name: 'Clone first and change it' }).click();
  await page.getByText(`begun as a copy of experiment ${id}`).waitFor();
  await eventually(() => page.getByLabel('Name').inputValue()).toBe('first');
  expect(await page.getByRole('textbox', { name: 'Seeds' }).inputValue()).toBe('4, 5');
  await page.getByLabel('Name').fill('second');
  await page.getByRole('textbox', { name: 'Seeds' }).fill('4, 6');
  await page.getByRole('checkbox', { name: /^imagenet_a/ }).uncheck();
  await page.getByRole('button', { name: 'Submit' }).click();
  await page.getByRole('heading', { name: 'second' }).waitFor();
  const [old, made] = [await detail(id), await detail(Number(page.url().split('/').at(-1)))];
  // All else is as it was.
  expect(made.experiment).toEqual({ ...old.experiment, name: 'second', seeds: [4, 6], datasets: ['sun397'] });
  await page.getByRole('tab', { name: 'Settings' }).click();
  await page.getByText('at most 2 jobs').waitFor();
  await page.getByText('those labelled a100').waitFor();
});

test('an experiment is cancelled and retried from the list, after a question', async () => {
  const { id } = await coordinator.submit({ name: 'doubtful', protocol: 'base_to_new', methods: ['coop'], datasets: ['food101'] });
  const seen = await visit(browser, `${coordinator.url}/experiments`);
  const { page } = seen;
  const row = page.getByRole('row').filter({ has: page.getByRole('link', { name: 'doubtful', exact: true }) });
  await row.getByRole('button', { name: 'Cancel doubtful' }).click();
  const dialog = page.getByRole('dialog', { name: 'Cancel doubtful?' });
  await dialog.getByText('2 jobs will not be done').waitFor();
  await expectSound(seen);
  await page.keyboard.press('Escape');
  await dialog.waitFor({ state: 'hidden' });
  expect((await detail(id)).cancelled).toBe(false);

  await row.getByRole('button', { name: 'Cancel doubtful' }).click();
  await dialog.getByRole('button', { name: 'Cancel the experiment' }).click();
  await page.getByRole('status').getByText('doubtful: 2 jobs cancelled').waitFor();
  await row.getByText('cancelled', { exact: true }).waitFor();
  expect((await detail(id)).counts.cancelled).toBe(2);

  await row.getByRole('button', { name: /^Retry what failed or was cancelled/ }).click();
  const question = page.getByRole('dialog', { name: 'Retry doubtful?' });
  await question.getByText('Will be queued again: 2 jobs cancelled.').waitFor();
  await expectSound(seen);
  await question.getByRole('button', { name: 'Retry', exact: true }).click();
  await page.getByRole('status').getByText('doubtful: 2 jobs queued again').waitFor();
  expect((await detail(id)).counts).toMatchObject({ cancelled: 0, queued: 1, blocked: 1 });
  await coordinator.ask('POST', `/experiments/${id}/cancel`);
});

test('what is submitted elsewhere appears in the list, and its progress', async () => {
  const { page, complaints } = await visit(browser, `${coordinator.url}/experiments`);
  await page.getByRole('heading', { name: 'Experiments' }).waitFor();
  await page.getByText('live', { exact: true }).waitFor();
  const { id } = await coordinator.submit({ name: 'from elsewhere', protocol: 'base_to_new', methods: ['zero_shot'], datasets: ['ucf101'] });
  const row = page.getByRole('row').filter({ has: page.getByRole('link', { name: 'from elsewhere', exact: true }) });
  await row.getByText('0 of 2 done').waitFor();
  await worker.work(() => 60);
  await row.getByText('2 of 2 done').waitFor();
  await row.getByText('complete', { exact: true }).waitFor();
  expect(await row.getByRole('progressbar').getAttribute('aria-valuetext')).toBe('2 completed');
  await row.getByRole('link', { name: 'Results of from elsewhere' }).click();
  await page.getByRole('table', { name: /^from elsewhere/ }).waitFor();
  expect(page.url()).toBe(`${coordinator.url}/?experiment=${id}`);
  expect(complaints).toEqual([]);
});

test('who skips the menu is at the content', async () => {
  const { page } = await form();
  await mark(page);
  await page.getByRole('link', { name: 'Skip to the content' }).focus();
  await page.keyboard.press('Enter');
  await eventually(() => page.evaluate(() => document.activeElement?.id)).toBe('main');
  await page.getByLabel('Name').waitFor();
  await expectNotReloaded(page);
});

test('what no worker can take has no end, and every place that says when says what is missing', async () => {
  const open = { protocol: 'base_to_new', methods: ['coop'], datasets: ['imagenet'] };
  await coordinator.submit({ name: 'measured', ...open, seeds: [90] });
  await worker.work(() => 60);
  const { id } = await coordinator.submit({ name: 'for nobody', ...open, seeds: [91], labels: ['nobody'] });
  const reason = /^.*2 of its jobs can't run: none of the \d+ connected workers has the backbone `ViT-B\/16` and the label `nobody`.*$/;
  const places = { list: '/experiments', page: `/experiments/${id}`, results: `/?experiment=${id}` };
  for (const [place, address] of Object.entries(places)) {
    const seen = await visit(browser, coordinator.url + address);
    const { page } = seen;
    await page.getByText(reason).waitFor();
    await page.getByText(/never,? (complete, )?as things are/i).first().waitFor();
    if (place !== 'list') expect(await page.getByText(/^in \d|less than a minute/).count()).toBe(0);
    await expectSound(seen);
    await page.context().close();
  }
  // Someone comes who can.
  const able = await coordinator.worker('somebody', { labels: ['nobody'] });
  const { page } = await visit(browser, `${coordinator.url}/experiments/${id}`);
  await page.getByText(/in less than a minute|^in \d/).waitFor();
  expect(await page.getByText(reason).count()).toBe(0);
  await able.work(() => 61);
});
