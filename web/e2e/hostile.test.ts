// Names, reasons and log lines that are HTML or script: text like any other.

import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { type Visit, eventually, expectFits, expectSound, launch, visit } from './browser';
import { Coordinator, type PlayedWorker, type Schemas } from './coordinator';

let coordinator: Coordinator;
let browser: Browser;
let worker: PlayedWorker;

const IMAGE = '<img src=x onerror=alert(1)>';
const SCRIPT = '"><script>alert(2)</script>';
const ADDRESS = 'javascript:alert(3)';
const LONG = `${'long'.repeat(40)}<b>end</b>`;
const ALL = [IMAGE, SCRIPT, ADDRESS, LONG];
/// All of that at once: where each of them would cost a visit to every view.
const MEAN = `${ADDRESS}//${SCRIPT}${IMAGE}`;
const FEW = [MEAN, LONG];

beforeAll(async () => {
  [coordinator, browser] = await Promise.all([Coordinator.start(), launch()]);
  worker = await coordinator.worker(IMAGE, { host: SCRIPT, devices: [ADDRESS] });
  for (const name of ALL.slice(1)) await coordinator.worker(name);
});

afterAll(async () => {
  await browser.close();
  await coordinator.stop();
});

let seeds = 0;
/// Of greater priority than all before: its job is the next to be leased.
function submit(name: string) {
  seeds++;
  return coordinator.submit({ name, protocol: 'base_to_new', methods: ['coop'], datasets: ['dtd'], seeds: [seeds], priority: seeds });
}

async function lease(): Promise<Schemas['LeaseGrant']> {
  const [grant] = await worker.lease(1);
  if (grant === undefined) throw new Error('there is no job to lease');
  return grant;
}

/// The text is there as it is, nothing ran, and the page is as wide as its window, on a telephone too.
async function expectHarmless({ page, complaints }: Visit, ...texts: string[]) {
  for (const text of texts) await page.getByText(text).first().waitFor();
  // An image that can't be loaded, or a script, would have said so by now: all that was there has been laid out.
  await page.evaluate(() => new Promise((frame) => requestAnimationFrame(() => setTimeout(frame, 0))));
  expect(await page.locator('img, main script').count()).toBe(0);
  expect(await page.locator('a[href^="javascript:" i]').count()).toBe(0);
  expect(complaints).toEqual([]);
  await expectFits(page);
  await page.setViewportSize({ width: 360, height: 740 });
  await expectFits(page);
  await page.setViewportSize({ width: 1280, height: 900 });
}

test('an experiment’s name', async () => {
  const ids: number[] = [];
  for (const name of FEW) ids.push((await submit(name)).id);
  const list = await visit(browser, `${coordinator.url}/experiments`);
  await expectHarmless(list, ...FEW);
  await expectSound(list);
  for (const [at, id] of ids.entries()) {
    const name = FEW[at] ?? '';
    const heading = { name, exact: true };
    const seen = await visit(browser, `${coordinator.url}/experiments/${id}`);
    await seen.page.getByRole('heading', heading).waitFor();
    await expectHarmless(seen, name);
    expect(await seen.page.title()).toContain(name);
    await seen.page.getByRole('tab', { name: 'Settings' }).click();
    await seen.page.getByRole('group', { name: 'The experiment as TOML' }).waitFor();
    await expectHarmless(seen);

    await seen.page.goto(`${coordinator.url}/?experiment=${id}`);
    await seen.page.getByRole('table').waitFor();
    await expectHarmless(seen);
    expect(await seen.page.getByRole('caption').innerText()).toContain(name);

    await seen.page.goto(`${coordinator.url}/experiments/new?from=${id}`);
    await seen.page.getByText('begun as a copy of').waitFor();
    await eventually(() => seen.page.getByLabel('Name').inputValue()).toBe(name);
    await seen.page.getByText('Show as TOML').click();
    await expectHarmless(seen);
    await seen.page.context().close();
  }
  // The dialog names it too.
  await list.page.getByRole('button', { name: `Cancel ${MEAN}` }).click();
  await list.page.getByRole('heading', { name: `Cancel ${MEAN}?` }).waitFor();
  await expectHarmless(list);
  await expectSound(list);
});

test('what a worker says of itself', async () => {
  const seen = await visit(browser, `${coordinator.url}/workers`);
  await expectHarmless(seen, ...ALL);
  await expectSound(seen);
  await seen.page.getByRole('row').filter({ hasText: IMAGE }).getByRole('button', { name: 'Drain …' }).first().click();
  await seen.page.getByRole('dialog').getByText(`Give ${IMAGE} no more jobs?`).waitFor();
  await expectHarmless(seen);
});

test('why a job failed, wherever that is said', async () => {
  const { id } = await submit('reasons');
  const seen = await visit(browser, `${coordinator.url}/events`);
  await seen.page.getByText('live', { exact: true }).waitFor();
  for (const reason of FEW) {
    const grant = await lease();
    await worker.fail(grant, reason);
    // Among the events, and in the notice above the page.
    await expectHarmless(seen, reason);
    await seen.page.getByRole('alert').getByText(`failed: ${reason}`).first().waitFor();
    await seen.page.getByRole('button', { name: 'Dismiss that jobs failed' }).click();

    const job = await visit(browser, `${coordinator.url}/jobs/${grant.job}`);
    await job.page.getByRole('cell', { name: reason }).waitFor();
    await expectHarmless(job, reason);
    await job.page.context().close();
    await coordinator.ask('POST', `/jobs/${grant.job}/retry`);
  }
  const last = await lease();
  await worker.fail(last, SCRIPT);
  const jobs = await visit(browser, `${coordinator.url}/experiments/${id}?tab=jobs`);
  await expectHarmless(jobs, `bug: ${SCRIPT}`);
  await coordinator.ask('POST', `/experiments/${id}/cancel`);
});

test('lines of a log and names of numbers', async () => {
  await submit('lines');
  const grant = await lease();
  await worker.log(grant, 0, [...ALL, '\u001b[31mred\u001b[0m', `${'x'.repeat(100_000)} end`, '\u202eback to front']);
  const values = Object.fromEntries(ALL.map((name, i) => [`loss/${name}`, i]));
  await worker.progress(grant, { metrics: [{ step: 0, values }, { step: 1, values }] });
  const seen = await visit(browser, `${coordinator.url}/jobs/${grant.job}`);
  const { page } = seen;
  await page.getByRole('list', { name: /^Log of job/ }).getByText('back to front').waitFor();
  await page.getByRole('figure', { name: 'Loss and its terms' }).waitFor();
  await expectHarmless(seen, ...ALL);
  await page.getByRole('searchbox', { name: 'Search' }).fill('<img');
  await eventually(() => page.locator('mark').allInnerTexts()).toEqual(['<img']);
  await page.getByLabel('wrap').check();
  await expectHarmless(seen, IMAGE);
  await page.getByRole('button', { name: 'Show as table' }).click();
  await page.getByRole('columnheader', { name: IMAGE }).waitFor();
  await expectHarmless(seen);
  await expectSound(seen);
});

test('addresses', async () => {
  const image = encodeURIComponent(IMAGE);
  const seen = await visit(browser, `${coordinator.url}/${image}`);
  await seen.page.getByRole('heading', { name: 'There is nothing here' }).waitFor();
  await expectHarmless(seen);
  await submit('addressed');
  await seen.page.goto(`${coordinator.url}/?filter=${image}&sort=${image}&hide=${image}&view=${image}`);
  await expectHarmless(seen, `No data set has “${IMAGE}” in its name.`);
  await seen.page.goto(`${coordinator.url}/?experiment=${image}`);
  await expectHarmless(seen, `There is no experiment ${IMAGE}`);
  await seen.page.goto(`${coordinator.url}/experiments?from=${encodeURIComponent(ADDRESS)}`);
  await expectHarmless(seen);
});
