// Workers that are started on demand: real ones as processes on this host, and some that are of no use.

import { chmodSync, existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { eventually, expectFits, expectLegible, expectNotReloaded, expectSound, launch, mark, textOf, visit } from './browser';
import { Coordinator, type Schemas, until } from './coordinator';

const HOSTILE = '<img src=x onerror=alert(1)>';

let browser: Browser;
/// Its pilots are real.
let coordinator: Coordinator;
/// Its pilots are a script that fails at once.
let failing: Coordinator;

beforeAll(async () => {
  [browser, coordinator, failing] = await Promise.all([
    launch(),
    Coordinator.start({ backbones: '' }),
    Coordinator.start({ more: '[coordinator.pilots]\nprogram = "pilot.sh"' }),
  ]);
  const script = join(failing.folder, 'pilot.sh');
  writeFileSync(script, `#!/bin/sh\necho 'no weights ${HOSTILE}' >&2\nexit 1\n`);
  chmodSync(script, 0o755);
});

afterAll(async () => {
  // Pilots outlive their coordinator.
  await Promise.all([coordinator, failing].map(turnOff));
  await browser.close();
  await Promise.all([coordinator.stop(), failing.stop()]);
});

const pools = async (of: Coordinator) => (await of.ask<Schemas['Pools']>('GET', '/pools')).pools;
const pilots = async (of: Coordinator) => (await of.ask<Schemas['Pilots']>('GET', '/pilots')).pilots;

async function turnOff(of: Coordinator) {
  for (const { name } of await pools(of)) await of.ask('DELETE', `/pools/${name}`);
  await until('all pools are off', async () => (await pools(of)).every(({ state }) => state === 'off'));
}

async function workers(of: Coordinator) {
  const seen = await visit(browser, `${of.url}/workers`);
  await seen.page.getByRole('heading', { name: 'Workers', exact: true }).waitFor();
  await seen.page.getByText('live', { exact: true }).waitFor();
  await mark(seen.page);
  return seen;
}

const list = (page: Page) => page.getByRole('table', { name: 'Pilots, the latest first' }).getByRole('row').filter({ has: page.getByRole('rowheader') });

test('a pool and its pilot are there as they come, and go by the button', async () => {
  const seen = await workers(coordinator);
  const { page } = seen;
  expect(await page.getByRole('heading', { name: 'Pools' }).count()).toBe(0);
  await coordinator.ask('PUT', '/pools/home', { launcher: 'local', max: 1, min: 1, labels: ['on-demand'] });
  const card = page.getByRole('article', { name: 'home' });
  await card.getByText('active', { exact: true }).waitFor();
  const { height } = (await card.boundingBox()) ?? {};

  // Its worker is a real one.
  await eventually(() => textOf(card)).toMatch(/Pilots 1 of at most 1, at least 1 .* Running 1, 1 with its worker .* Each on-demand/);
  const pilot = list(page);
  await eventually(() => textOf(pilot)).toMatch(/^1 home running \d+ process \d+ \S+ home-[0-9a-f]{8}-0 /);
  expect((await card.boundingBox())?.height).toBe(height);
  const name = await pilot.getByRole('link').innerText();
  const worker = page.getByRole('table', { name: 'Workers that are here' }).getByRole('row').filter({ hasText: name });
  expect(await textOf(worker.getByRole('rowheader'))).toMatch(/a pilot$/);
  await pilot.getByRole('link').click();
  await eventually(() => page.locator(':target').getAttribute('id')).toBe(await worker.getAttribute('id'));
  await expectSound(seen);
  await page.emulateMedia({ colorScheme: 'dark' });
  await expectLegible(seen);
  await page.setViewportSize({ width: 360, height: 740 });
  await expectFits(page);

  const button = card.getByRole('button', { name: 'Turn off …' });
  const dialog = page.getByRole('dialog', { name: 'Turn off …' });
  await button.focus();
  await page.keyboard.press('Enter');
  await dialog.getByText('Turn off home? Its pilots are ended').waitFor();
  await expectFits(page);
  await expectSound(seen);
  await page.keyboard.press('Escape');
  await dialog.waitFor({ state: 'hidden' });
  expect((await pools(coordinator))[0]?.state).toBe('active');
  await button.click();
  await dialog.getByRole('button', { name: 'Turn off', exact: true }).click();
  await card.getByText('off', { exact: true }).waitFor();
  expect(await card.getByRole('button').count()).toBe(0);
  await eventually(() => textOf(pilot)).toMatch(/ ended .* its pool was turned off; /);
  await expectNotReloaded(page);
  await expectSound(seen);
  const [{ launcher_id } = {}] = await pilots(coordinator);
  expect(existsSync(`/proc/${launcher_id}`)).toBe(false);
});

test('a pool whose pilots fail is paused, says why, and goes on by the button', async () => {
  const seen = await workers(failing);
  const { page } = seen;
  const events = await visit(browser, `${failing.url}/events`);
  await events.page.getByText('live', { exact: true }).waitFor();
  await failing.ask('PUT', '/pools/home', { launcher: 'local', max: 3, min: 3 });
  const card = page.getByRole('article', { name: 'home' });
  await card.getByText('paused', { exact: true }).waitFor();
  const reason = `3 pilots in a row were of no use, the last: exit status: 1; its log ends with: no weights ${HOSTILE}`;
  await card.getByText(`Paused: ${reason}`).waitFor();
  await eventually(() => list(page).filter({ hasText: 'failed' }).filter({ hasText: HOSTILE }).count()).toBe(3);
  const notice = page.getByRole('alert').getByText(`Pool home was paused: ${reason}`);
  await notice.waitFor();
  await expectSound(seen);
  await page.emulateMedia({ colorScheme: 'dark' });
  await expectLegible(seen);
  await page.setViewportSize({ width: 360, height: 740 });
  await expectFits(page);

  // Among the events, too.
  await events.page.getByLabel('Kind').selectOption('pools');
  await events.page.getByLabel('State').selectOption('paused');
  await events.page.getByRole('row').filter({ hasText: 'pool home' }).filter({ hasText: reason }).waitFor();
  await events.page.getByLabel('State').selectOption('all');
  await events.page.getByLabel('Kind').selectOption('pilots');
  await events.page.getByRole('row').filter({ hasText: 'pilot 1, home' }).filter({ hasText: 'failed' }).waitFor();
  await expectSound(events);

  await card.getByRole('button', { name: 'Resume' }).click();
  await eventually(() => list(page).count()).toBe(6);
  await expectNotReloaded(page);
  expect(seen.complaints).toEqual([]);
});

test('a notice goes when its pool does, or when it is dismissed', async () => {
  await turnOff(failing);
  const { page } = await visit(browser, `${failing.url}/experiments`);
  await page.getByText('live', { exact: true }).waitFor();
  const notice = page.getByRole('alert').getByText('Pool other was paused');
  await failing.ask('PUT', '/pools/other', { launcher: 'local', max: 3, min: 3 });
  await notice.waitFor();
  await page.getByRole('button', { name: 'Dismiss that pools were paused' }).click();
  await notice.waitFor({ state: 'hidden' });
  await failing.ask('POST', '/pools/other/resume');
  await notice.waitFor();
  await failing.ask('DELETE', '/pools/other');
  await notice.waitFor({ state: 'hidden' });
});
