// A job's page: its log as it is printed, its curves, and why it failed.

import { readFileSync } from 'node:fs';

import type { Page } from 'playwright-core';
import { expect, test } from 'vitest';

import { eventually, expectNotReloaded, expectSound, mark, textOf, visit } from './browser';
import type { Schemas } from './coordinator';
import { browser, coordinator, worker } from './stage';

let seeds = 0;
/// The lease of a training that no other test has.
async function training(): Promise<Schemas['LeaseGrant']> {
  seeds++;
  await coordinator.submit({ name: `training ${seeds}`, protocol: 'base_to_new', methods: ['coop'], datasets: ['dtd'], seeds: [seeds], priority: seeds });
  const [grant] = await worker.lease(1);
  if (grant === undefined) throw new Error('there is no job to lease');
  return grant;
}

const open = (grant: Schemas['LeaseGrant']) => visit(browser, `${coordinator.url}/jobs/${grant.job}`);
const numbered = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => `line ${from + i} of the log`);
const region = (page: Page) => page.getByRole('group', { name: /^Log of job/ });
const lines = (page: Page) => page.getByRole('list', { name: /^Log of job/ }).getByRole('listitem');

/// The lines that can be seen.
function inView(page: Page): Promise<string[]> {
  return region(page).evaluate((node) => {
    const { top, bottom } = node.getBoundingClientRect();
    return [...node.querySelectorAll('[role=listitem]')].filter((line) => {
      const box = line.getBoundingClientRect();
      return box.top >= top - 1 && box.bottom <= bottom + 1;
    }).map((line) => line.textContent?.trim().replace(/^\d+\s*/, '') ?? '');
  });
}

test('the log is followed as it is printed, until the reader scrolls up', async () => {
  const grant = await training();
  const { page, complaints } = await open(grant);
  await page.getByText('They come when a worker prints them.').waitFor();
  await mark(page);
  await worker.log(grant, 0, numbered(0, 100));
  await eventually(async () => (await inView(page)).at(-1)).toBe('line 99 of the log');
  await worker.log(grant, 100, numbered(100, 200));
  await eventually(async () => (await inView(page)).at(-1)).toBe('line 199 of the log');

  await region(page).hover();
  await page.mouse.wheel(0, -400);
  await eventually(() => page.getByLabel('follow').isChecked()).toBe(false);
  const read = await inView(page);
  await worker.log(grant, 200, numbered(200, 300));
  await page.getByText('300 lines.').waitFor();
  expect(await inView(page)).toEqual(read);
  await page.getByLabel('follow').check();
  await eventually(async () => (await inView(page)).at(-1)).toBe('line 299 of the log');
  await expectNotReloaded(page);
  expect(complaints).toEqual([]);
});

test('twenty thousand lines cost no more than those in view, are searched, and downloaded as the API has them', async () => {
  const grant = await training();
  for (let first = 0; first < 20_000; first += 4000) await worker.log(grant, first, numbered(first, first + 4000));
  const seen = await open(grant);
  const { page } = seen;
  await page.getByText(/^20\s000 lines\./).waitFor();
  await eventually(async () => (await inView(page)).at(-1)).toBe('line 19999 of the log');
  expect(await lines(page).count()).toBeLessThan(100);
  expect(await lines(page).first().getAttribute('aria-setsize')).toBe('20000');

  const search = page.getByRole('searchbox', { name: 'Search' });
  const matches = page.getByRole('status').filter({ hasText: /in .*lines?|of .* lines/ }).first();
  await search.fill('LINE 1234');
  // 1234 itself, and 12340 to 12349.
  await eventually(() => textOf(matches)).toBe('in 11 lines');
  await page.getByRole('button', { name: 'Next' }).click();
  await eventually(() => textOf(matches)).toBe('1 of 11 lines');
  await eventually(() => inView(page)).toContain('line 1234 of the log');
  await search.press('Enter');
  await eventually(() => inView(page)).toContain('line 12340 of the log');
  await search.fill('[');
  await eventually(() => textOf(page.getByText('in no line'))).toBe('in no line');
  await search.fill('');

  await region(page).evaluate((node) => node.scrollTo(0, 0));
  await eventually(async () => (await inView(page))[0]).toBe('line 0 of the log');
  expect(await lines(page).count()).toBeLessThan(100);

  const [file] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Download' }).click()]);
  const content = readFileSync(await file.path(), 'utf8');
  expect(content).toBe(await coordinator.text(`/jobs/${grant.job}/log`));
  expect(content.split('\n').slice(0, 2)).toEqual(['line 0 of the log', 'line 1 of the log']);
  await expectSound(seen);
});

test('the log of every attempt can be read', async () => {
  const first = await training();
  await worker.log(first, 0, ['first: reading', 'first: why it failed']);
  await worker.fail(first, 'no luck');
  await coordinator.ask('POST', `/jobs/${first.job}/retry`);
  const again = (await worker.lease(64)).find(({ job }) => job === first.job);
  if (again === undefined) throw new Error('the job is not queued again');
  await worker.log(again, 0, ['second: reading']);
  const seen = await open(again);
  const { page } = seen;
  await mark(page);
  const shown = (text: string) => lines(page).filter({ hasText: text });
  await shown('second: reading').waitFor();
  await page.getByRole('link', { name: `Log of attempt ${first.lease}` }).click();
  await page.getByRole('heading', { name: `Log of attempt ${first.lease}` }).waitFor();
  await shown('first: why it failed').waitFor();
  expect(await shown('second').count()).toBe(0);
  expect(new URL(page.url()).searchParams.get('attempt')).toBe(String(first.lease));
  await page.getByText('The attempt has ended.').waitFor();
  const [file] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Download' }).click()]);
  expect(readFileSync(await file.path(), 'utf8')).toBe('first: reading\nfirst: why it failed\n');
  await expectSound(seen);
  await page.getByRole('button', { name: 'Show the latest' }).click();
  await shown('second: reading').waitFor();
  await expectNotReloaded(page);
  await page.goto(`${coordinator.url}/jobs/${first.job}?attempt=${first.lease}`);
  await shown('first: why it failed').waitFor();
  await page.goto(`${coordinator.url}/jobs/${first.job}?attempt=999999`);
  await page.getByRole('status').getByText(`${first.lease}`).waitFor();
  await worker.complete(again, 70);
});

test('a failed job says why at the top, and can be run again', async () => {
  const grant = await training();
  await worker.log(grant, 0, ['reading the list of images', 'giving up']);
  await worker.fail(grant, 'split_zhou_DescribableTextures.json has no "test"');
  const seen = await open(grant);
  const { page } = seen;
  await mark(page);
  const reason = page.getByText(/split_zhou_DescribableTextures.json has no "test"/);
  await reason.first().waitFor();
  const top = (await reason.first().boundingBox())?.y ?? Infinity;
  expect(top).toBeLessThan((await page.getByRole('heading', { name: 'Attempts' }).boundingBox())?.y ?? 0);
  expect(top).toBeLessThan(300);
  await lines(page).filter({ hasText: 'giving up' }).waitFor();
  expect(await page.title()).toMatch(/^failed: Job/);
  await expectSound(seen);

  await page.getByRole('button', { name: 'Retry' }).click();
  await page.getByText('queued', { exact: true }).first().waitFor();
  const [again] = await worker.lease(1);
  expect(again?.job).toBe(grant.job);
  if (again === undefined) return;
  await worker.log(again, 0, ['the second attempt']);
  // The log of the next attempt takes the place of the first one's.
  await lines(page).filter({ hasText: 'the second attempt' }).waitFor();
  expect(await lines(page).filter({ hasText: 'giving up' }).count()).toBe(0);
  await expectNotReloaded(page);
});

test('curves appear while the job trains, and stand beside those of another', async () => {
  const [one, two] = [await training(), await training()];
  const points = (from: number, to: number, loss: number) =>
    Array.from({ length: to - from }, (_, i) => ({ step: from + i, values: { loss: loss / (from + i + 1), acc: 50 + i, lr: 0.002 } }));
  await worker.progress(two, { metrics: points(0, 4, 8) });
  const seen = await open(one);
  const { page } = seen;
  await page.getByText('There are no numbers of training steps yet').waitFor();
  await mark(page);
  await worker.progress(one, { metrics: points(0, 3, 6), progress: { epoch: 0, epochs: 5, step: 3, steps: 50 } });
  const figure = page.getByRole('figure', { name: 'Loss and its terms' });
  await figure.waitFor();
  await page.getByRole('figure', { name: 'Learning rate' }).waitFor();
  await page.getByText('epoch 0 of 5, step 3 of 50').waitFor();
  await figure.getByRole('button', { name: 'Show as table' }).click();
  const table = figure.getByRole('table');
  const values = async (name: string) => {
    const texts = await table.getByRole('row').filter({ has: page.getByRole('rowheader') }).allInnerTexts();
    return texts.map((text) => text.trim().split(/\s+/)[name === 'own' ? 1 : 2]);
  };
  await eventually(() => values('own')).toEqual(['6', '3', '2']);
  await worker.progress(one, { metrics: points(3, 4, 6) });
  await eventually(() => values('own')).toEqual(['6', '3', '2', '1.5']);

  await page.getByLabel('Compare with job').fill(String(two.job));
  await page.getByRole('button', { name: 'Compare', exact: true }).click();
  await table.getByRole('columnheader', { name: `loss, job ${two.job}` }).waitFor();
  await eventually(() => values('other')).toEqual(['8', '4', '2.667', '2']);
  await page.getByText(`dashed: job ${two.job}`).waitFor();
  await figure.getByRole('button', { name: 'Show as table' }).click();
  // Each of the charts has it.
  await eventually(() => page.getByText(new RegExp(`job ${two.job}`)).count()).toBeGreaterThan(3);
  await expectSound(seen);
  await expectNotReloaded(page);
  await page.reload();
  await page.getByText(`dashed: job ${two.job}`).waitFor();
});

test('a job is cancelled only after a question, and a running log ends', async () => {
  const grant = await training();
  const seen = await open(grant);
  const { page } = seen;
  await page.getByRole('button', { name: 'Cancel …' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByText('the tests of its checkpoint are cancelled with it').waitFor();
  await expectSound(seen);
  await dialog.getByRole('button', { name: 'Leave it as it is' }).click();
  await dialog.waitFor({ state: 'hidden' });
  const { state } = await coordinator.ask<Schemas['JobSummary']>('GET', `/jobs/${grant.job}`);
  expect(state).toMatch(/leased|running/);
  await page.getByRole('button', { name: 'Cancel …' }).click();
  await dialog.getByRole('button', { name: 'Cancel', exact: true }).click();
  await page.getByRole('button', { name: 'Retry' }).waitFor();
  await page.getByText('cancelled', { exact: true }).first().waitFor();
});
