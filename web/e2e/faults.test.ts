// What a machine was found unable to do, and the button that gives it another chance.

import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { expectFits, expectSound, launch, visit } from './browser';
import { Coordinator, type Schemas } from './coordinator';

let browser: Browser;
let coordinator: Coordinator;

beforeAll(async () => {
  [browser, coordinator] = await Promise.all([launch(), Coordinator.start()]);
});

afterAll(async () => {
  await browser.close();
  await coordinator.stop();
});

test('a sick machine is named with its reason, and checked again by a button', async () => {
  await coordinator.submit({ name: 'x', protocol: 'base_to_new', methods: ['mmrl'], datasets: ['dtd'] });
  const sick = await coordinator.worker('sick', { host: 'sick', output_root: '/scratch' });
  await coordinator.worker('well', { host: 'well', output_root: '/scratch' });
  const [lease] = (await coordinator.ask<Schemas['LeaseResponse']>('POST', `/workers/${sick.id}/lease`, { slots: 1, wait_ms: 0 })).leases;
  const failure = { class: 'storage', reason: 'no space is left <b>there</b>' };
  await coordinator.ask('POST', `/leases/${lease!.lease}/fail`, { token: lease!.token, failure, cause: { of: 'output_root' } });

  const seen = await visit(browser, `${coordinator.url}/workers`);
  const { page } = seen;
  const section = page.getByRole('region', { name: 'What machines can’t do' });
  await section.getByText('sick can’t use the output root /scratch: no space is left <b>there</b>').waitFor();
  await section.getByText('tried again in').waitFor();
  await expectFits(page);
  await section.getByRole('button', { name: 'Check sick again' }).click();
  await section.waitFor({ state: 'detached' });
  expect((await coordinator.ask<Schemas['MachineFaults']>('GET', '/faults')).faults).toEqual([]);
  await expectSound(seen);
});
