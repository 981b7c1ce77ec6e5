// The coordinator goes away and comes back, and so does the network: the page says so and catches up by itself.

import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { eventually, expectNotReloaded, expectSound, launch, mark, textOf, visit } from './browser';
import { Coordinator } from './coordinator';

let browser: Browser;

beforeAll(async () => {
  browser = await launch();
});

afterAll(async () => {
  await browser.close();
});

/// A coordinator of its own for each test: they are killed.
async function started() {
  const coordinator = await Coordinator.start();
  const worker = await coordinator.worker('player');
  const { id } = await coordinator.submit({ name: 'long', protocol: 'base_to_new', methods: ['zero_shot'], datasets: ['dtd', 'eurosat'] });
  const grants = await worker.work(() => null);
  return { coordinator, worker, id, grants };
}

test('after a crash the page is stale, and then live again with what happened meanwhile', async () => {
  const { coordinator, worker, grants } = await started();
  try {
    const seen = await visit(browser, coordinator.url);
    const { page } = seen;
    await page.getByText('0 of 4 jobs done').waitFor();
    // The jobs are counted before the table is there.
    await page.getByRole('table').waitFor();
    await page.getByText('live', { exact: true }).waitFor();
    await mark(page);

    await coordinator.kill();
    await page.getByRole('status').getByText(/^stale since \d\d:\d\d:\d\d; trying again/).waitFor();
    // What was there is still there, under that sign.
    expect(await page.getByRole('table').isVisible()).toBe(true);
    await expectSound(seen);

    await coordinator.up();
    // At once, so that the page has hardly come back.
    const [first] = grants;
    if (first !== undefined) await worker.complete(first, 55);
    await page.getByText('live', { exact: true }).waitFor();
    await eventually(() => textOf(page.getByText(/of 4 jobs done/))).toMatch(/^1 of 4 jobs done/);
    await page.getByRole('cell').filter({ hasText: '55.00' }).first().waitFor();
    await expectNotReloaded(page);
  } finally {
    await coordinator.stop();
  }
});

test('what failed to load while it was away is asked for again', async () => {
  const { coordinator, worker, id, grants } = await started();
  try {
    const { page } = await visit(browser, `${coordinator.url}/events`);
    await page.getByText('live', { exact: true }).waitFor();
    // With an event the stream has a place at which it goes on: no view is told to look at everything anew.
    const [first] = grants;
    if (first !== undefined) await worker.complete(first, 55);
    await page.getByRole('row').filter({ hasText: 'completed' }).waitFor();
    await mark(page);
    await coordinator.kill();
    await page.getByText(/^stale since/).waitFor();
    await page.getByRole('link', { name: 'Experiments' }).click();
    await page.getByText('The experiments could not be fetched: The coordinator does not answer.').waitFor();
    await coordinator.up();
    await page.getByRole('link', { name: 'long', exact: true }).waitFor();
    await eventually(() => page.getByText('could not be fetched').count()).toBe(0);
    await page.getByRole('link', { name: 'long', exact: true }).click();
    await page.getByRole('heading', { name: 'long' }).waitFor();
    expect(page.url()).toBe(`${coordinator.url}/experiments/${id}`);
    await expectNotReloaded(page);
  } finally {
    await coordinator.stop();
  }
});

test('the same when it is the network that is away', async () => {
  const { coordinator, worker, id, grants } = await started();
  try {
    const { page } = await visit(browser, `${coordinator.url}/experiments/${id}`);
    await page.getByText('0 of 4 jobs done').waitFor();
    await page.getByText('live', { exact: true }).waitFor();
    await mark(page);
    await page.context().setOffline(true);
    // An open stream outlives that in Chromium: with the next question the page finds out.
    await page.getByRole('tab', { name: 'Jobs' }).click();
    await page.getByText('The jobs: The coordinator does not answer.').waitFor();
    const [first] = grants;
    if (first !== undefined) await worker.complete(first, 55);
    await page.context().setOffline(false);
    await eventually(() => textOf(page.getByText(/of 4 jobs done/))).toMatch(/^1 of 4 jobs done/);
    await eventually(() => page.getByText('The coordinator does not answer.').count()).toBe(0);
    await page.getByRole('table', { name: /^Jobs of the experiment/ }).getByText('completed').waitFor();
    await expectNotReloaded(page);
  } finally {
    await coordinator.stop();
  }
});
