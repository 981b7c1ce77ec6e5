// The pictures in docs/images: the demo matrix that two workers have really run, and a larger one whose numbers are played. These
// are the published ones with a little noise, and its name says that they are no measurements.

import { mkdirSync, readFileSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';

import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { launch, visit } from './browser';
import { Coordinator, type PlayedWorker, type Schemas, until } from './coordinator';

const IMAGES = resolve('../docs/images');
const WIDTH = 1280;
const MOST_BYTES = 150_000;

const METHODS = ['alignednorm', 'mmrlpp', 'mmrl', 'coop', 'zero_shot'];
const DATASETS = ['oxford_pets', 'dtd', 'eurosat', 'ucf101'];
type Pair = { base: number; new: number };

/// What is published of the methods that have no file in configs/published, by data set.
const ACCURACIES: Record<string, Record<string, Pair>> = {
  coop: { oxford_pets: { base: 93.67, new: 95.29 }, dtd: { base: 79.44, new: 41.18 }, eurosat: { base: 92.19, new: 54.74 }, ucf101: { base: 84.69, new: 56.05 } },
  zero_shot: { oxford_pets: { base: 91.17, new: 97.26 }, dtd: { base: 53.24, new: 59.9 }, eurosat: { base: 56.48, new: 64.05 }, ucf101: { base: 70.53, new: 77.5 } },
};
for (const method of ['alignednorm', 'mmrlpp', 'mmrl']) {
  const { datasets } = JSON.parse(readFileSync(resolve(`../configs/published/${method}.json`), 'utf8')) as { datasets: Record<string, Pair> };
  ACCURACIES[method] = datasets;
}

/// The published number and what a seed may add to it; always the same.
function played({ method, dataset, seed, stage }: Schemas['JobSpec']): number {
  const published = ACCURACIES[method]?.[dataset]?.[stage === 'train' ? 'base' : 'new'] ?? 50;
  if (method === 'zero_shot') return published;
  const noise = Math.sin(seed * 12.9898 + dataset.length * 78.233 + method.length * 37.719 + (stage === 'train' ? 0 : 5)) * (stage === 'train' ? 0.4 : 1.2);
  return Math.round((published + noise) * 10) / 10;
}

let coordinator: Coordinator;
let browser: Browser;
let north: PlayedWorker;
let south: PlayedWorker;

beforeAll(async () => {
  browser = await launch();
  // The played workers alone carry the label that the larger matrix asks for.
  coordinator = await Coordinator.demo(`"ViT-B/16" = "${resolve('../demo/clip-mini.safetensors')}"`);
  const done = async () => (await coordinator.ask<Schemas['ExperimentSummary']>('GET', '/experiments/1').catch(() => null))?.counts.completed === 20;
  await until('the demo is complete', done, 200_000);
  // The real workers have the demo's weights under that name.
  const { backbones } = await coordinator.ask<Schemas['PinnedBackbones']>('GET', '/backbones');
  const sha256 = backbones.find(({ backbone }) => backbone === 'clip-mini')?.sha256;
  await coordinator.ask('PUT', '/backbones', { backbone: 'ViT-B/16', sha256 });
  const more = { devices: ['cuda:0'], memory_mib: 81_559, labels: ['a100'], slots: 4 };
  north = await coordinator.worker('north-1', { host: 'north', ...more });
  south = await coordinator.worker('south-1', { host: 'south', ...more });
});

afterAll(async () => {
  await browser.close();
  await coordinator.stop();
});

const matrix = (name: string, seeds: number[]) =>
  coordinator.submit({ name, protocol: 'base_to_new', methods: METHODS, datasets: DATASETS, seeds, shots: [16], labels: ['a100'] });

async function take(page: Page, name: string, height: number) {
  mkdirSync(IMAGES, { recursive: true });
  const path = join(IMAGES, `${name}.png`);
  await page.setViewportSize({ width: WIDTH, height });
  await page.getByText('live', { exact: true }).waitFor();
  await page.screenshot({ path, animations: 'disabled', caret: 'hide' });
  expect(statSync(path).size, path).toBeLessThan(MOST_BYTES);
}

test('results, in the light and in the dark', async () => {
  const { id } = await matrix('played numbers', [1, 2, 3]);
  await north.work(played);
  const { page } = await visit(browser, `${coordinator.url}/?experiment=${id}`);
  await page.getByRole('table').waitFor();
  await take(page, 'results', 720);
  await page.emulateMedia({ colorScheme: 'dark' });
  await take(page, 'results-dark', 720);
});

test('a matrix and the workers, while jobs run', async () => {
  const { id } = await matrix('played numbers, ten seeds', [11, 12, 13, 14, 15, 16, 17, 18, 19, 20]);
  for (let round = 0; round < 17; round++) {
    const worker = round % 2 === 0 ? north : south;
    for (const [i, grant] of (await worker.lease(8)).entries()) {
      if (round % 9 === 4 && i === 3) await worker.fail(grant, 'CUDA error: an illegal memory access was encountered');
      else await worker.complete(grant, played(grant.spec));
    }
  }
  for (const worker of [north, south]) {
    for (const [i, grant] of (await worker.lease(4)).entries()) {
      const epoch = 3 + 4 * i;
      await worker.progress(grant, { progress: { epoch, epochs: 25, step: epoch * 40 + 17, steps: 1040 } });
    }
  }
  const { page } = await visit(browser, `${coordinator.url}/experiments/${id}`);
  await page.getByRole('application').waitFor();
  await page.getByText('Throughput').waitFor();
  await take(page, 'matrix', 870);
  for (const [{ id }, busy_percent, memory_mib] of [[north, 97, 31_400], [south, 88, 29_900]] as const) {
    const device = { device: 'cuda:0', busy_percent, memory_mib, memory_total_mib: 81_559 };
    await coordinator.ask('POST', `/workers/${id}/load`, { devices: [device] });
  }
  await page.goto(`${coordinator.url}/workers`);
  await page.getByText(/^epoch 15 of 25/).first().waitFor();
  await page.getByRole('img', { name: /^slots in use/ }).first().waitFor();
  await take(page, 'workers', 760);
});

test('a job', async () => {
  const { items } = await coordinator.ask<{ items: Schemas['JobSummary'][] }>('GET', '/experiments/1/jobs');
  const trained = items.find(({ title }) => title.startsWith('train alignednorm on icons'));
  const { page } = await visit(browser, `${coordinator.url}/jobs/${trained?.id}`);
  await page.getByRole('figure', { name: 'Loss and its terms' }).waitFor();
  await page.getByText('The attempt has ended.').waitFor();
  await page.getByRole('heading', { name: 'Curves' }).evaluate((node) => node.scrollIntoView());
  await take(page, 'job', 830);
});
