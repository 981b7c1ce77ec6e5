// How much a page asks of the coordinator.

import type { Page, Request } from 'playwright-core';
import { expect, test } from 'vitest';

import { eventually } from './browser';
import { browser, coordinator, worker } from './stage';

/// A page that counts what it asks, from before it is opened. Streams are asked for once and stay open.
async function opened(): Promise<{ page: Page; asked: string[]; settled: () => Promise<void> }> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
  const page = await context.newPage();
  const asked: string[] = [];
  const pending = new Set<Request>();
  const isStream = (request: Request) => request.headers()['accept'] === 'text/event-stream';
  page.on('request', (request) => {
    const { pathname, search } = new URL(request.url());
    if (!pathname.startsWith('/api/')) return;
    asked.push(`${request.method()} ${pathname}${search}`);
    if (!isStream(request)) pending.add(request);
  });
  page.on('requestfinished', (request) => pending.delete(request));
  page.on('requestfailed', (request) => pending.delete(request));
  const settled = async () => {
    // What an answer makes the page ask next is asked within a frame.
    const frame = () => page.evaluate(() => new Promise((done) => queueMicrotask(() => done(null))));
    await eventually(async () => (await frame(), pending.size)).toBe(0);
  };
  return { page, asked, settled };
}

/// Opens a view, and waits until it has asked what it asks at first. Time passes only as it is told to from then on.
async function arrive(page: Page, view: string, settled: () => Promise<void>) {
  await page.clock.install();
  await page.goto(coordinator.url + view);
  await page.getByText('live', { exact: true }).waitFor();
  await settled();
  // What is asked again soon is asked within a second.
  await page.clock.pauseAt((await page.evaluate(() => Date.now())) + 1500);
  await settled();
}

/// What is there in each view: experiments that wait, more than are asked about at once, and jobs that a worker holds.
async function installation() {
  const methods = ['coop', 'mmrl', 'alignednorm', 'mmrlpp'];
  const { id } = await coordinator.submit({ name: 'held', protocol: 'base_to_new', methods, datasets: ['dtd', 'eurosat'], seeds: [1] });
  const held = await worker.lease(8);
  const progress = { epoch: 1, epochs: 5, step: 10, steps: 50 };
  for (const grant of held) await worker.progress(grant, { progress, metrics: [{ step: 0, values: { loss: 2 } }] });
  for (let seed = 2; seed < 14; seed++) {
    await coordinator.submit({ name: `waits ${seed}`, protocol: 'base_to_new', methods: ['coop'], datasets: ['dtd'], seeds: [seed] });
  }
  const [one, two] = held.map(({ job }) => job);
  // What has ended, and printed nothing.
  const ended = await coordinator.submit({ name: 'ended', protocol: 'base_to_new', methods: ['coop'], datasets: ['dtd'], seeds: [40], priority: 1 });
  await worker.complete((await worker.lease(1))[0]!, 70);
  const done = await coordinator.ask<{ items: { id: number }[] }>('GET', `/experiments/${ended.id}/jobs?state=completed`);
  const jobs = await coordinator.ask<{ items: { id: number }[] }>('GET', `/experiments/${id + 1}/jobs`);
  return {
    held: held.length,
    views: [
      '/', `/?experiment=${id}`, '/experiments', '/experiments/new', `/experiments/${id}`, `/experiments/${id}?tab=jobs`,
      `/experiments/${id}?tab=settings`, `/jobs/${one}`, `/jobs/${one}?compare=${two}`, `/jobs/${jobs.items[0]?.id}`, `/jobs/${done.items[0]?.id}`, '/workers', '/events',
    ],
  };
}

test('a view at which nothing happens asks at most ten times in ten seconds', async () => {
  const { held, views } = await installation();
  expect(held).toBe(8);
  for (const view of views) {
    const { page, asked, settled } = await opened();
    await arrive(page, view, settled);
    asked.length = 0;
    // Everything that is due is answered before time goes on.
    for (let passed = 0; passed < 10_000; passed += 500) {
      await page.clock.runFor(500);
      await settled();
    }
    expect(asked.length, `${view}\n${asked.join('\n')}`).toBeLessThanOrEqual(10);
    await page.context().close();
  }
});

test('a page asks nothing twice at its start', async () => {
  const { id } = await coordinator.submit({ name: 'done', protocol: 'base_to_new', methods: ['coop'], datasets: ['dtd'], seeds: [50] });
  const own = await coordinator.worker('does it');
  await own.work(({ seed }) => (seed === 50 ? 70 : null));
  const [job] = (await coordinator.ask<{ items: { id: number }[] }>('GET', `/experiments/${id}/jobs`)).items;
  const views = ['/', `/?experiment=${id}`, '/experiments', '/experiments/new', `/experiments/${id}`, `/experiments/${id}?tab=jobs`, `/jobs/${job?.id}`, '/workers', '/events'];
  for (const view of views) {
    const { page, asked, settled } = await opened();
    await arrive(page, view, settled);
    expect(asked.length).toBeGreaterThan(0);
    expect(asked.toSorted(), view).toEqual([...new Set(asked)].toSorted());
    await page.context().close();
  }
});

test('workers and their jobs are asked for together, and how far the jobs have come is seen', async () => {
  await coordinator.submit({ name: 'seen', protocol: 'base_to_new', methods: ['coop'], datasets: ['dtd'], seeds: [77] });
  const own = await coordinator.worker('with a job of its own', { labels: [] });
  const grants = (await own.lease(64)).filter(({ spec }) => spec.seed === 77);
  const [grant] = grants;
  if (grant === undefined) throw new Error('there is no job to lease');
  const { page, asked } = await opened();
  await page.goto(`${coordinator.url}/workers`);
  const row = page.getByRole('row').filter({ has: page.getByRole('rowheader', { name: 'with a job of its own' }) });
  await row.getByRole('link', { name: /^train coop on dtd, 16 shots, seed 77/ }).waitFor();
  await own.progress(grant, { progress: { epoch: 3, epochs: 5, step: 31, steps: 50 } });
  await row.getByText('epoch 3 of 5, step 31 of 50').waitFor();
  expect(asked.filter((what) => what.startsWith('GET /api/v1/jobs/'))).toEqual([]);
});
