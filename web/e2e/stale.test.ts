// What a number rests on, and what becomes of it when that changes: notes below tables, stale and adopted results, computing again.

import { expect, test } from 'vitest';

import { eventually, expectFits, expectNotReloaded, expectSound, mark, textOf, visit } from './browser';
import type { Schemas } from './coordinator';
import { browser, coordinator, worker } from './stage';

let seeds = 0;
/// CoOp on a data set with a seed that no other test has: a training and its test.
function submit(name: string, more: Record<string, unknown> = {}) {
  seeds++;
  return coordinator.submit({ name, protocol: 'base_to_new', methods: ['coop'], datasets: ['dtd'], seeds: [seeds], ...more });
}

let pins = 0;
/// Everything that there is becomes stale.
async function pinAnew(): Promise<string> {
  pins++;
  const sha256 = String(pins).repeat(64);
  await coordinator.ask('PUT', '/backbones', { backbone: 'ViT-B/16', sha256 });
  return sha256;
}

const jobsOf = async (id: number) => (await coordinator.ask<{ items: Schemas['JobSummary'][] }>('GET', `/experiments/${id}/jobs`)).items;

test('notes stand below each kind of table, and in what is copied', async () => {
  const cross = { protocol: 'cross_dataset', source: 'imagenet', datasets: ['caltech101', 'imagenetv2'], shots: [16] };
  const kinds = [await submit('base to new'), await submit('transfer', cross), await submit('few', { protocol: 'few_shot', shots: [1, 4] })];
  await worker.work(() => 70);
  await pinAnew();
  const stale = /^stale: jobs? .*the backbone `ViT-B\/16` was bbbbbbbbbbbb, and it is pinned to 111111111111/;
  for (const { id, name } of kinds) {
    const seen = await visit(browser, `${coordinator.url}/?experiment=${id}`, { permissions: ['clipboard-read', 'clipboard-write'] });
    const { page } = seen;
    const notes = page.getByRole('list', { name: 'Notes on the numbers' });
    await notes.waitFor();
    const said = (await notes.getByRole('listitem').allInnerTexts()).map((note) => note.trim());
    expect(said[0], name).toMatch(stale);
    expect(said[1], name).toBe(`\`promptfield rerun ${id} --stale\` computes what is stale again`);
    const table = await page.getByRole('table').boundingBox();
    expect((await notes.boundingBox())?.y).toBeGreaterThan((table?.y ?? Infinity) + (table?.height ?? 0) - 1);
    for (const [words, format] of [['LaTeX', 'latex'], ['Markdown', 'markdown']] as const) {
      await page.getByRole('button', { name: words }).click();
      await page.getByText(`${words} copied`).waitFor();
      const copied = await page.evaluate(() => navigator.clipboard.readText());
      expect(copied).toContain('pinned to 111111111111');
      expect(copied).toContain(await coordinator.text(`/experiments/${id}/results?format=${format}`).then((table) => table.split('\n')[0]));
    }
    await expectSound(seen);
    await page.setViewportSize({ width: 360, height: 740 });
    await expectFits(page);
    await notes.waitFor();
    await page.context().close();
  }
});

test('an experiment’s stale results are computed again, for those of others only if that is said', async () => {
  const one = await submit('mine');
  const other = await coordinator.submit({ name: 'theirs', protocol: 'base_to_new', methods: ['coop', 'zero_shot'], datasets: ['dtd'], seeds: [seeds] });
  await worker.work(() => 70);
  const sha256 = await pinAnew();
  const seen = await visit(browser, `${coordinator.url}/experiments/${one.id}`);
  const { page } = seen;
  await page.getByText(/^2 results are stale: the backbone `ViT-B\/16` was/).waitFor();
  await mark(page);
  const button = page.getByRole('button', { name: 'Compute stale results again …' });
  await button.click();
  const dialog = page.getByRole('dialog');
  await dialog.getByText(`Compute the 2 stale results of experiment ${one.id} again`).waitFor();
  await dialog.getByRole('button', { name: 'Compute stale results again' }).click();
  await dialog.getByText(new RegExp(`is shared with experiment ${other.id}`)).waitFor();
  await expectSound(seen);
  await page.setViewportSize({ width: 360, height: 740 });
  await expectFits(page);
  await page.setViewportSize({ width: 1280, height: 900 });
  await dialog.getByRole('button', { name: 'Leave it as it is' }).click();
  await dialog.waitFor({ state: 'hidden' });
  expect((await jobsOf(one.id)).map(({ state }) => state)).toEqual(['completed', 'completed']);

  // From the beginning: the first question comes first again.
  await button.click();
  await dialog.getByText(`Compute the 2 stale results of experiment ${one.id} again`).waitFor();
  await dialog.getByRole('button', { name: 'Compute stale results again' }).click();
  await dialog.getByRole('button', { name: 'Compute again for all of them' }).click();
  await eventually(() => textOf(page.getByText(/of 2 jobs done/))).toBe('0 of 2 jobs done, 1 queued, 1 blocked');
  await button.waitFor({ state: 'detached' });
  await worker.work(() => 71);
  await eventually(() => textOf(page.getByText(/of 2 jobs done/))).toBe('2 of 2 jobs done');
  expect(await page.getByText(/stale/).count()).toBe(0);
  await expectNotReloaded(page);
  const [job] = await jobsOf(one.id);
  const detail = await coordinator.ask<Schemas['JobDetail']>('GET', `/jobs/${job?.id}`);
  expect(detail.manifest?.weights_sha256).toBe(sha256);
  expect(detail.superseded?.map(({ result }) => result?.accuracy)).toEqual([70]);
});

test('a job says what its result rests on, that it is stale, and what it had before', async () => {
  const { id } = await submit('one job');
  const [grant] = await worker.lease(1);
  if (grant === undefined) throw new Error('there is no job to lease');
  const architecture: Schemas['Architecture'] = { activation: 'gelu', vision_head_width: 80, text_head_width: 64, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25] };
  const hostile = '<b onclick=alert(1)>star</b>';
  await worker.complete(grant, 81.5, { architecture, assumed: ['mean', 'std'], left_out: [{ class: hostile, images: 3 }] });
  await worker.work(() => 60);
  const seen = await visit(browser, `${coordinator.url}/jobs/${grant.job}`);
  const { page } = seen;
  await mark(page);
  const provenance = page.getByRole('region', { name: 'Where its numbers come from' });
  await eventually(() => textOf(provenance)).toMatch(/activation GELU width of an image head 80 width of a text head 64 mean of the pixels 0.5, 0.5, 0.5 \(assumed\)/);
  await provenance.getByText('nothing beside the weights says it').waitFor();
  await provenance.getByText(`test list ${'d'.repeat(64)}`).waitFor();
  await provenance.getByText(`Left out of the test, since they have no training image: ${hostile} (3 images).`).waitFor();
  // Its backbone is not the one that the name is pinned to.
  const result = page.getByRole('region', { name: 'Result', exact: true });
  await result.getByText(/^Stale: the backbone `ViT-B\/16` was [0-9a-f]{12}, and it is pinned to [0-9a-f]{12}\.$/).waitFor();
  await expectSound(seen);

  await page.getByRole('button', { name: 'Compute again …' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByText(`Compute job ${grant.job} again`).waitFor();
  await dialog.getByRole('button', { name: 'Compute again', exact: true }).click();
  await page.getByText('queued', { exact: true }).first().waitFor();
  const earlier = page.getByRole('table', { name: /^Earlier results/ });
  await earlier.waitFor();
  await result.waitFor({ state: 'detached' });
  const row = earlier.getByRole('row').nth(1);
  expect(await textOf(row)).toMatch(/^81\.50 10\s000 .* it is computed again Promptfield .* on cpu$/);
  await worker.work(() => 82);
  await result.getByText('82.00 %', { exact: true }).first().waitFor();
  expect(await page.getByText(/^Stale/).count()).toBe(0);
  await page.getByRole('link', { name: 'Earlier results' }).click();
  await expectSound(seen);
  await expectNotReloaded(page);
  await page.setViewportSize({ width: 360, height: 740 });
  await expectFits(page);
  // The test of its checkpoint was computed again with it.
  const jobs = await jobsOf(id);
  expect(jobs.map(({ result }) => result?.accuracy)).toEqual([82, 82]);
});

test('what another tool completed is marked as adopted', async () => {
  const { id } = await submit('adopted');
  for (const accuracy of [75, 65]) {
    const [grant] = await worker.lease(1);
    if (grant !== undefined) await worker.complete(grant, accuracy, null);
  }
  const list = await visit(browser, `${coordinator.url}/experiments/${id}?tab=jobs`);
  await eventually(() => list.page.getByRole('cell', { name: 'adopted: another tool completed its folder' }).count()).toBe(2);
  await expectSound(list);
  const [job] = await jobsOf(id);
  const seen = await visit(browser, `${coordinator.url}/jobs/${job?.id}`);
  await seen.page.getByText('adopted', { exact: true }).waitFor();
  await seen.page.getByText(/^Adopted: another tool completed its folder/).waitFor();
  await expectSound(seen);
  const { page } = await visit(browser, `${coordinator.url}/?experiment=${id}`);
  await page.getByRole('listitem').filter({ hasText: /^adopted: jobs .*, from folders that another tool completed$/ }).waitFor();
});

test('a worker with other weights than the pinned ones says so', async () => {
  const sha256 = await pinAnew();
  await coordinator.worker('the same', { backbone_sha256: { 'ViT-B/16': sha256 } });
  await coordinator.worker('another', { backbone_sha256: { 'ViT-B/16': 'a'.repeat(64) } });
  const seen = await visit(browser, `${coordinator.url}/workers`);
  const row = (name: string) => seen.page.getByRole('row').filter({ has: seen.page.getByRole('rowheader', { name }) });
  await row('another').getByText(`no jobs with ViT-B/16: its weights are aaaaaaaaaaaa, and the name is pinned to ${sha256.slice(0, 12)}`).waitFor();
  expect(await textOf(row('the same'))).not.toMatch(/pinned/);
  await expectSound(seen);
});
