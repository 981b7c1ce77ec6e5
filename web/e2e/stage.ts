// What most files need: a coordinator with a played worker, and a browser. They are there before the first test of whoever imports
// them, and each file has its own.

import type { Browser } from 'playwright-core';
import { afterAll, beforeAll } from 'vitest';

import { launch } from './browser';
import { Coordinator, type PlayedWorker } from './coordinator';

export let coordinator: Coordinator;
export let browser: Browser;
export let worker: PlayedWorker;

beforeAll(async () => {
  [coordinator, browser] = await Promise.all([Coordinator.start(), launch()]);
  worker = await coordinator.worker('player');
});

afterAll(async () => {
  await browser.close();
  await coordinator.stop();
});
