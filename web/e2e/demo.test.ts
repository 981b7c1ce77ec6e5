// A matrix that really runs: two workers train and test on the bundled data, while someone looks.

import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';

import { eventually, expectFits, expectLegible, expectNotReloaded, expectSound, launch, mark, textOf, visit } from './browser';
import { Coordinator, type Schemas, until } from './coordinator';

/// How long twenty jobs may take; alone on two cores, it is 16 s.
const SLOWEST = 150_000;
vi.setConfig({ testTimeout: SLOWEST + 30_000 });

let coordinator: Coordinator;
let browser: Browser;

beforeAll(async () => {
  browser = await launch();
  coordinator = await Coordinator.demo();
});

afterAll(async () => {
  await browser.close();
  await coordinator.stop();
});

const jobs = () => coordinator.ask<Schemas['ExperimentSummary']>('GET', '/experiments/1');
const isDone = async () => (await jobs().catch(() => null))?.counts.completed === 20;

test('the table fills while the matrix runs, without a reload', async () => {
  const { page, complaints } = await visit(browser, coordinator.url);
  const table = page.getByRole('table', { name: /^demo: accuracy/ });
  await table.waitFor();
  await mark(page);
  const words = async () => textOf(page.getByText(/of 20 jobs done/));
  const open = page.getByRole('cell').filter({ hasText: 'no result yet' });
  expect(await open.count()).toBeGreaterThan(0);
  expect(await words()).toMatch(/^\d+ of 20 jobs done, \d+ (running|leased|queued|blocked)/);

  // Cells fill one after the other: there are moments at which some are there and some are not.
  const seen = new Set<number>();
  await expect.poll(async () => {
    const left = await open.count();
    seen.add(left);
    return left;
  }, { timeout: SLOWEST, interval: 100 }).toBe(0);
  expect(seen.size).toBeGreaterThan(2);
  await eventually(words).toBe('20 of 20 jobs done');
  await eventually(() => page.getByText('provisional').filter({ hasNotText: 'not all of its jobs' }).count()).toBe(0);
  // 2 data sets and their average, of 3 methods each.
  expect(await page.getByRole('cell').filter({ hasText: /\d\.\d\d/ }).count()).toBe(27);
  await expectNotReloaded(page);
  expect(complaints).toEqual([]);
});

test('every view is sound, light and dark, and fits a telephone', async () => {
  await until('the matrix is complete', isDone, SLOWEST);
  const { items } = await coordinator.ask<{ items: Schemas['JobSummary'][] }>('GET', '/experiments/1/jobs');
  const trained = items.find(({ title }) => title.startsWith('train alignednorm'))?.id ?? 0;
  // Each address with something that is there only when the view is.
  const views = [
    ['/', 'H across data sets'],
    ['/experiments', 'New experiment'],
    ['/experiments/1', 'Select none'],
    ['/experiments/1?tab=jobs', 'train alignednorm on icons, 16 shots, seed 1'],
    ['/experiments/1?tab=settings', 'As a file'],
    [`/jobs/${trained}`, 'Where its numbers come from'],
    ['/workers', 'Workers that are here'],
    ['/events', 'this fills as things happen'],
    ['/experiments/new', 'Check all'],
    ['/nowhere', 'There is nothing here'],
  ] as const;
  const seen = await visit(browser, coordinator.url);
  const { page } = seen;
  for (const [address, words] of views) {
    await page.emulateMedia({ colorScheme: 'light' });
    await page.goto(coordinator.url + address);
    await page.getByText(words).or(page.getByRole('table', { name: words })).first().waitFor();
    await expectSound(seen);
    await page.emulateMedia({ colorScheme: 'dark' });
    await expectLegible(seen);
    await page.setViewportSize({ width: 360, height: 740 });
    await expectFits(page);
    await page.setViewportSize({ width: 1280, height: 900 });
  }
});

test('a job that is done shows its result by class, its curves, its log and its files', async () => {
  await until('the matrix is complete', isDone, SLOWEST);
  const { items } = await coordinator.ask<{ items: Schemas['JobSummary'][] }>('GET', '/experiments/1/jobs');
  const trained = items.find(({ title }) => title.startsWith('train alignednorm on icons'));
  const { page, complaints } = await visit(browser, `${coordinator.url}/jobs/${trained?.id}`);
  const { accuracy } = trained?.result ?? { accuracy: NaN };
  await page.getByText(`${accuracy.toFixed(2)} %`, { exact: true }).waitFor();

  const classes = page.getByRole('table', { name: /by class/ });
  const rows = classes.getByRole('row').filter({ has: page.getByRole('rowheader') });
  const recalls = async () => (await Promise.all((await rows.all()).map((row) => row.getByRole('cell').nth(1).innerText()))).map(Number);
  await eventually(async () => (await recalls()).length).toBeGreaterThan(5);
  const given = await recalls();
  await page.getByLabel('Order').selectOption('worst first');
  await eventually(recalls).toEqual([...given].sort((a, b) => a - b));

  await page.getByRole('figure', { name: 'Loss and its terms' }).waitFor();
  await page.getByRole('figure', { name: 'Norm terms' }).waitFor();
  await page.getByText('The attempt has ended.').waitFor();
  expect(await page.getByRole('list', { name: /^Log of job/ }).getByRole('listitem').count()).toBeGreaterThan(3);

  const files = page.getByRole('table', { name: 'Files of its output folder' });
  expect(await files.getByRole('row').count()).toBeGreaterThan(2);
  await files.getByRole('button', { name: 'Download' }).first().click();
  await Promise.race([page.waitForEvent('download'), page.getByText('it lies in the output folder of its worker').waitFor()]);
  expect(complaints).toEqual([]);
});

test('the two workers have done it, and the events tell of what happens from now on', async () => {
  await until('the matrix is complete', isDone, SLOWEST);
  const { page } = await visit(browser, `${coordinator.url}/workers`);
  await page.getByText(/^2 here, 0 of 2 slots in use/).waitFor();
  await page.getByRole('link', { name: 'Events' }).click();
  await page.getByText('Nothing happened yet').waitFor();
  await page.getByText('live', { exact: true }).waitFor();
  // The same again has nothing to do; another seed does.
  const { id } = await coordinator.submit({ name: 'once more', protocol: 'base_to_new', methods: ['coop'], datasets: ['icons'], seeds: [7], shots: [1], backbone: 'clip-mini' });
  await coordinator.ask('POST', `/experiments/${id}/cancel`);
  await page.getByRole('link', { name: `experiment ${id}, once more` }).first().waitFor();
  await page.getByRole('row').filter({ hasText: `experiment ${id}` }).filter({ hasText: 'cancelled' }).waitFor();
});
