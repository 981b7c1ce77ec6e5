// The tables: their numbers, computed by hand here, and what a reader can make of them.

import { readFileSync } from 'node:fs';

import type { Page } from 'playwright-core';
import { beforeAll, expect, test } from 'vitest';

import { type Visit, eventually, expectNotReloaded, expectSound, mark, textOf, visit } from './browser';
import type { Schemas } from './coordinator';
import { browser, coordinator, worker } from './stage';

/// Two methods and CLIP on two data sets, three seeds: complete.
let papers: number;

// By data set and method: base and new accuracy for the seeds 1, 2 and 3.
const ACCURACIES: Record<string, [base: number[], novel: number[]]> = {
  'eurosat alignednorm': [[96.0, 96.3, 95.7], [88, 89, 90]],
  'eurosat coop': [[92.0, 92.2, 92.4], [60, 61, 62]],
  'eurosat zero_shot': [[56.5], [64.1]],
  'dtd alignednorm': [[80, 81, 82], [65.0, 65.4, 65.2]],
  'dtd coop': [[79, 79, 79], [50, 50, 50]],
  'dtd zero_shot': [[53.2], [59.9]],
};

function known({ dataset, method, seed, stage }: Schemas['JobSpec']): number {
  const isBase = stage === 'train';
  return ACCURACIES[`${dataset} ${method}`]?.[isBase ? 0 : 1][Math.max(seed, 1) - 1] ?? NaN;
}

beforeAll(async () => {
  const methods = ['alignednorm', 'coop', 'zero_shot'];
  papers = (await coordinator.submit({ name: 'papers', protocol: 'base_to_new', methods, datasets: ['eurosat', 'dtd'], seeds: [1, 2, 3], shots: [16] })).id;
  await worker.work(known);
});

async function open(address: string): Promise<Visit> {
  const seen = await visit(browser, coordinator.url + address, { permissions: ['clipboard-read', 'clipboard-write'] });
  await seen.page.getByRole('table').waitFor();
  return seen;
}

/// The row of a method, in the part of the table that has the title.
function row(page: Page, title: string, method: string) {
  const group = page.getByRole('rowgroup').filter({ has: page.getByRole('rowheader', { name: title, exact: true }) });
  return group.getByRole('row').filter({ has: page.getByRole('rowheader', { name: method, exact: true }) });
}

function cells(page: Page, title: string, method: string): Promise<string[]> {
  return Promise.all([0, 1, 2].map((column) => textOf(row(page, title, method).getByRole('cell').nth(column))));
}

const methodsOf = async (page: Page) => (await page.getByRole('rowheader').allInnerTexts()).filter((name) => /Norm|CoOp|CLIP/.test(name));

test('means, deviations and the number of seeds stand in their cells, the published numbers beside them', async () => {
  const { page, complaints } = await open(`/?experiment=${papers}`);
  // Deviations over the seeds: √(((0)² + (0.3)² + (−0.3)²)/3) = 0.24. H is that of the means,
  // 2·96·89/185, and its deviation that of the seeds' own.
  expect(await cells(page, 'eurosat', 'AlignedNorm')).toEqual([
    '96.00 ± 0.24 n=3 , best published 96.10 −0.10 within the spread',
    '89.00 ± 0.82 n=3 , best published 86.63 +2.37 above',
    '92.37 ± 0.40 n=3 , best published 91.12 +1.25 above',
  ]);
  expect(await cells(page, 'eurosat', 'CoOp')).toEqual([
    '92.20 ± 0.16 n=3 , second best', '61.00 ± 0.82 n=3', '73.42 ± 0.64 n=3 , second best',
  ]);
  // What learns nothing has one number, and so no deviation.
  expect(await cells(page, 'eurosat', 'CLIP (zero-shot)')).toEqual(['56.50 n=1', '64.10 n=1 , second best', '60.06 n=1']);
  expect((await cells(page, 'dtd', 'AlignedNorm')).slice(0, 2)).toEqual([
    '81.00 ± 0.82 n=3 , best published 84.63 −3.63 below',
    '65.20 ± 0.16 n=3 , best published 65.23 −0.03 within the spread',
  ]);
  // The seeds' averages are 88.00, 88.65 and 88.85.
  expect((await cells(page, 'average over 2 data sets', 'AlignedNorm'))[0]).toMatch(/^88.50 ± 0.36 n=3/);
  await page.getByText('Published: AlignedNorm (ICML 2026)').waitFor();
  expect(complaints).toEqual([]);
});

test('the best is bold and the second underlined', async () => {
  const { page } = await open(`/?experiment=${papers}`);
  const look = (text: string) => page.getByText(text, { exact: true }).first().evaluate((node) => {
    const { fontWeight, textDecorationLine } = getComputedStyle(node);
    return `${fontWeight} ${textDecorationLine}`;
  });
  expect(await look('96.00 ± 0.24')).toBe('700 none');
  expect(await look('92.20 ± 0.16')).toBe('400 underline');
  expect(await look('56.50')).toBe('400 none');
});

test('a number is marked as provisional until all of its seeds are in, and changes without a reload', async () => {
  const { id } = await coordinator.submit({ name: 'unfinished', protocol: 'base_to_new', methods: ['coop'], datasets: ['ucf101'], seeds: [1, 2, 3], shots: [16] });
  const held = await worker.work((spec) => (spec.seed === 3 ? null : 70 + spec.seed));
  const { page, complaints } = await open(`/?experiment=${id}`);
  await mark(page);
  const base = async () => (await cells(page, 'ucf101', 'CoOp'))[0];
  expect(await base()).toBe('71.50 ± 0.50 * 2/3 , provisional: 2 of 3 seeds, 1 running');
  for (const grant of held) await worker.complete(grant, 73);
  await eventually(base).toBe('72.00 ± 0.82 n=3');
  await expectNotReloaded(page);
  expect(complaints).toEqual([]);
});

test('what failed says so in its cell and above the table', async () => {
  const { id } = await coordinator.submit({ name: 'broken', protocol: 'base_to_new', methods: ['zero_shot'], datasets: ['food101'] });
  const grants = await worker.work(() => null);
  for (const grant of grants) {
    if (grant.spec.stage === 'train') await worker.fail(grant, 'the annotations are not there');
    else await worker.complete(grant, 60);
  }
  const { page } = await open(`/?experiment=${id}`);
  expect(await cells(page, 'food101', 'CLIP (zero-shot)')).toEqual([
    'failed 0/1 , no result yet: 0 of 1 seeds, 1 failed', '60.00 n=1', 'failed 1/2 jobs , no result yet: 1 of 2 jobs, 1 failed',
  ]);
  await page.getByRole('link', { name: '1 failed', exact: true }).click();
  await page.waitForURL(/tab=jobs&state=failed/);
  await page.getByText('bug: the annotations are not there').waitFor();
});

test('what is hidden, which seeds, in which order and layout: all is in the address', async () => {
  const { page, complaints } = await open(`/?experiment=${papers}`);
  const again = async () => {
    await page.reload();
    await page.getByRole('table').waitFor();
  };

  const methods = page.getByRole('group', { name: 'Methods' });
  await methods.getByLabel('CoOp').uncheck();
  await eventually(async () => [...new Set(await methodsOf(page))]).toEqual(['AlignedNorm', 'CLIP (zero-shot)']);
  // The second is another one now.
  expect((await cells(page, 'eurosat', 'CLIP (zero-shot)'))[0]).toBe('56.50 n=1 , second best');
  expect(new URL(page.url()).searchParams.get('hide')).toBe('coop');
  await again();
  await eventually(async () => [...new Set(await methodsOf(page))]).toEqual(['AlignedNorm', 'CLIP (zero-shot)']);
  expect(await methods.getByLabel('CoOp').isChecked()).toBe(false);
  await methods.getByLabel('CoOp').check();

  const seeds = page.getByRole('group', { name: 'Seeds' });
  await seeds.getByLabel('3').uncheck();
  // (96.0 + 96.3)/2
  const ofTwo = /^96.15 ± 0.15 n=2/;
  await eventually(async () => (await cells(page, 'eurosat', 'AlignedNorm'))[0]).toMatch(ofTwo);
  expect(new URL(page.url()).searchParams.get('seeds')).toBe('1,2');
  await again();
  expect((await cells(page, 'eurosat', 'AlignedNorm'))[0]).toMatch(ofTwo);
  await seeds.getByLabel('3').check();
  await eventually(async () => (await cells(page, 'eurosat', 'AlignedNorm'))[0]).toMatch(/^96.00/);

  const heading = page.getByRole('columnheader', { name: 'New' });
  await heading.getByRole('button').click();
  const byNew = ['AlignedNorm', 'CLIP (zero-shot)', 'CoOp'];
  await eventually(async () => (await methodsOf(page)).slice(0, 3)).toEqual(byNew);
  expect(await heading.getAttribute('aria-sort')).toBe('descending');
  await again();
  await eventually(async () => (await methodsOf(page)).slice(0, 3)).toEqual(byNew);
  await heading.getByRole('button').click();
  await eventually(async () => (await methodsOf(page)).slice(0, 3)).toEqual([...byNew].reverse());

  const layout = page.getByRole('button', { name: 'H across data sets' });
  await layout.click();
  await page.getByRole('columnheader', { name: 'average' }).waitFor();
  await again();
  expect(await layout.getAttribute('aria-pressed')).toBe('true');
  const line = page.getByRole('row').filter({ has: page.getByRole('rowheader', { name: 'AlignedNorm' }) }).getByRole('cell');
  expect(await textOf(line.nth(0))).toMatch(/^92.37 ± 0.40 n=3 , best published 91.12 \+1.25 above/);
  expect(await page.getByRole('columnheader').allInnerTexts()).toEqual(['Method', 'eurosat', 'dtd', 'average']);

  await page.getByLabel('Data sets with').fill('dt');
  await eventually(() => page.getByRole('columnheader').allInnerTexts()).toEqual(['Method', 'dtd', 'average']);
  await page.getByLabel('published numbers beside').uncheck();
  await eventually(() => page.getByText('published 73.67').count()).toBe(0);
  expect(complaints).toEqual([]);
});

test('copied tables are those of the API, with what is hidden left out', async () => {
  const { page, complaints } = await open(`/?experiment=${papers}&hide=coop`);
  for (const [words, format] of [['LaTeX', 'latex'], ['Markdown', 'markdown'], ['CSV', 'csv']] as const) {
    const wanted = await coordinator.text(`/experiments/${papers}/results?format=${format}&compare=published&methods=alignednorm,zero_shot`);
    await page.getByRole('button', { name: words }).click();
    await page.getByText(`${words} copied`).waitFor();
    expect(await page.evaluate(() => navigator.clipboard.readText())).toBe(wanted);
    expect(wanted).not.toMatch(/coop/i);
  }
  const [file] = await Promise.all([page.waitForEvent('download'), page.getByRole('link', { name: 'Download as CSV' }).click()]);
  expect(file.suggestedFilename()).toBe(`papers-${papers}.csv`);
  expect(readFileSync(await file.path(), 'utf8')).toBe(await coordinator.text(`/experiments/${papers}/results?format=csv&compare=published&methods=alignednorm,zero_shot`));
  expect(complaints).toEqual([]);
});

test('without leave to write to the clipboard the table is shown for copying by hand', async () => {
  const seen = await visit(browser, `${coordinator.url}/?experiment=${papers}`, { permissions: [] });
  await seen.page.getByRole('button', { name: 'Markdown' }).waitFor();
  // As on a page without HTTPS.
  await seen.page.evaluate(() => Object.defineProperty(navigator, 'clipboard', { value: undefined }));
  await seen.page.getByRole('button', { name: 'Markdown' }).click();
  const dialog = seen.page.getByRole('dialog', { name: 'Copy it by hand' });
  const wanted = await coordinator.text(`/experiments/${papers}/results?format=markdown&compare=published`);
  expect(await dialog.getByRole('textbox').inputValue()).toBe(wanted);
  await expectSound(seen);
  await dialog.getByRole('button', { name: 'Close' }).click();
  await dialog.waitFor({ state: 'hidden' });
});

test('a cell leads to its jobs', async () => {
  const { page } = await open(`/?experiment=${papers}`);
  // Base classes are tested by the trainings of the three seeds, new ones by their tests, and H is of both.
  for (const [column, number, stage] of [[0, 3, 'train'], [1, 3, 'test'], [2, 6, '(train|test)']] as const) {
    await row(page, 'dtd', 'CoOp').getByRole('cell').nth(column).getByRole('link').click();
    await page.getByRole('tab', { name: 'Jobs', selected: true }).waitFor();
    await page.getByText(`${number} jobs`, { exact: true }).waitFor();
    const titles = await page.getByRole('row').getByRole('link', { name: /coop/ }).allInnerTexts();
    expect(titles).toHaveLength(number);
    for (const title of titles) expect(title).toMatch(new RegExp(`^${stage} coop on dtd`));
    await page.goBack();
    await page.getByRole('table').waitFor();
  }
});

test('jobs of a sweep are told apart, and a cell leads to those with its values', async () => {
  const sweep = { alpha: [0.25, 0.75] };
  const { id } = await coordinator.submit({ name: 'swept', protocol: 'base_to_new', methods: ['alignednorm'], datasets: ['fgvc_aircraft'], seeds: [1, 2], sweep });
  await worker.work(({ seed }) => 40 + seed);
  const seen = await open(`/?experiment=${id}`);
  const { page } = seen;
  const line = row(page, 'fgvc_aircraft', 'AlignedNorm (alpha=0.75)');
  await line.getByRole('cell').first().getByRole('link').click();
  await page.getByText('2 jobs', { exact: true }).waitFor();
  const titles = () => page.getByRole('row').getByRole('link', { name: /alignednorm/ }).allInnerTexts();
  expect(await titles()).toEqual([1, 2].map((seed) => `train alignednorm on fgvc_aircraft, 16 shots, seed ${seed}, alpha=0.75`));
  expect(await page.getByLabel('Values').inputValue()).toBe('alpha=0.75');
  await page.getByLabel('Values').selectOption('alpha=0.25');
  await page.getByLabel('Stage').selectOption('all');
  await page.getByText('4 jobs', { exact: true }).waitFor();
  await eventually(async () => new Set((await titles()).map((title) => title.split(', ').at(-1)))).toEqual(new Set(['alpha=0.25']));
  expect(new URL(page.url()).searchParams.get('variant')).toBe('alpha=0.25');
  await expectSound(seen);
  await page.getByRole('row').getByRole('link', { name: /^train .*seed 1/ }).click();
  await page.getByText('train alignednorm on fgvc_aircraft, 16 shots, seed 1, alpha=0.25', { exact: true }).waitFor();
});

test('while a job is missing nobody is the best on average, on the page and in LaTeX', async () => {
  const methods = ['alignednorm', 'coop', 'mmrl'];
  const { id } = await coordinator.submit({ name: 'incomplete', protocol: 'base_to_new', methods, datasets: ['caltech101', 'stanford_cars'], seeds: [1] });
  // The method that is the best lacks the data set that is the harder one.
  const points: Record<string, number> = { alignednorm: 70, coop: 60, mmrl: 65 };
  const easy = ({ dataset }: Schemas['JobSpec']) => (dataset === 'caltech101' ? 20 : 0);
  const isMissing = ({ method, dataset }: Schemas['JobSpec']) => method === 'alignednorm' && dataset === 'stanford_cars';
  const held = await worker.work((spec) => (isMissing(spec) ? null : (points[spec.method] ?? 0) + easy(spec)));
  for (const grant of held) await worker.fail(grant, 'out of luck');
  const { page } = await open(`/?experiment=${id}&view=methods&sort=-average`);
  const average = async () => {
    const lines = page.getByRole('row').filter({ has: page.getByRole('rowheader') });
    return (await Promise.all((await lines.all()).map((line) => textOf(line.getByRole('cell').last())))).map((text) => text.replace(/ n=1| published.*/g, ''));
  };
  await eventually(average).toEqual([expect.stringMatching(/^90.00 \*.*provisional/), '75.00', '70.00']);
  expect(await page.getByRole('cell', { name: /best/ }).count()).toBeGreaterThan(0);
  await page.getByText('no best among averages of which one lacks jobs').waitFor();
  const latex = await coordinator.text(`/experiments/${id}/results?format=latex`);
  const [, rest = ''] = latex.split(/\\midrule\n(?=average)/);
  expect(rest).toContain('75.00');
  expect(rest).not.toMatch(/textbf|underline/);
  expect(rest).toContain("% Best and second aren't marked among averages");
  // Without it the others can be compared.
  await page.getByRole('group', { name: 'Methods' }).getByLabel('AlignedNorm').uncheck();
  await eventually(average).toEqual(['75.00 , best', '70.00 , second best']);
  expect(await page.getByText('no best among averages').count()).toBe(0);
});

test('the page stays at its experiment when another one is submitted, and says that there is one', async () => {
  const first = await coordinator.submit({ name: 'watched', protocol: 'base_to_new', methods: ['coop'], datasets: ['oxford_flowers'], seeds: [1] });
  const { page } = await visit(browser, coordinator.url);
  await page.waitForURL(`${coordinator.url}/?experiment=${first.id}`);
  await page.getByText('live', { exact: true }).waitFor();
  await page.getByRole('table').waitFor();
  const second = await coordinator.submit({ name: 'colleague’s', protocol: 'base_to_new', methods: ['coop'], datasets: ['oxford_flowers'], seeds: [2] });
  const link = page.getByRole('link', { name: `${second.id} colleague’s` });
  await link.waitFor();
  expect(await page.getByRole('combobox', { name: 'Experiment' }).inputValue()).toBe(String(first.id));
  expect(page.url()).toBe(`${coordinator.url}/?experiment=${first.id}`);
  await link.click();
  await eventually(() => page.getByRole('combobox', { name: 'Experiment' }).inputValue()).toBe(String(second.id));
  await eventually(() => page.title()).toMatch(/^colleague’s: results/);
  await link.waitFor({ state: 'detached' });
});

test('while a table is computed the page says that it loads', async () => {
  const other = await coordinator.submit({ name: 'another', protocol: 'base_to_new', methods: ['coop'], datasets: ['oxford_pets'], seeds: [1] });
  const { page } = await visit(browser, 'about:blank');
  let answer = () => {};
  await page.route(/\/results/, async (route) => {
    await new Promise<void>((resolve) => (answer = resolve));
    await route.continue();
  });
  const loads = async (table: RegExp) => {
    await page.getByText('Loading …', { exact: true }).waitFor();
    expect(await page.getByRole('table').count()).toBe(0);
    await eventually(async () => (answer(), page.title())).toMatch(table);
    await page.getByText('Loading …', { exact: true }).waitFor({ state: 'detached' });
  };
  await page.goto(`${coordinator.url}/?experiment=${papers}`);
  await loads(/^papers/);
  await page.getByRole('combobox', { name: 'Experiment' }).selectOption(String(other.id));
  await loads(/^another/);
});

test('a curve shows which of its points are provisional', async () => {
  const { id } = await coordinator.submit({ name: 'some of it', protocol: 'few_shot', methods: ['coop'], datasets: ['ucf101', 'food101', 'dtd'], seeds: [1], shots: [1, 4] });
  const isIn = ({ shots, dataset }: Schemas['JobSpec']) => shots === 1 || dataset === 'ucf101';
  const held = await worker.work((spec) => (isIn(spec) ? 60 + spec.shots : null));
  const seen = await open(`/?experiment=${id}`);
  const { page } = seen;
  const average = page.getByRole('figure').filter({ has: page.getByRole('img', { name: 'average over 3 data sets: accuracy over shots' }) });
  await average.getByText('provisional: 1 of 3 data sets are in').waitFor();
  const drawn = async (figure: typeof average) => [await figure.locator('.mark').count(), await figure.locator('.mark.hollow').count(), await figure.locator('path.line.provisional').count()];
  expect(await drawn(average)).toEqual([2, 1, 1]);
  expect(await average.locator('desc').textContent()).toBe('Accuracy in per cent over shots. CoOp: 61.0 at 1, 64.0 at 4 (provisional).');
  expect(await average.locator('.mark.hollow title').textContent()).toMatch(/^CoOp, 4 shots: 64.00, provisional: 1 of 3 jobs, 2 running$/);
  const own = page.getByRole('figure').filter({ has: page.getByRole('img', { name: 'ucf101: accuracy over shots' }) });
  expect(await drawn(own)).toEqual([2, 0, 0]);
  await expectSound(seen);
  for (const grant of held) await worker.complete(grant, 65);
  await eventually(() => drawn(average)).toEqual([2, 0, 0]);
  expect(await page.getByText(/data sets are in/).count()).toBe(0);
});

test('cross-dataset transfer: the source, the targets and the variants of ImageNet with their averages', async () => {
  const accuracies: Record<string, number> = { imagenet: 71, caltech101: 94, oxford_pets: 90, imagenetv2: 64, imagenet_a: 50 };
  const datasets = ['caltech101', 'oxford_pets', 'imagenetv2', 'imagenet_a'];
  const { id } = await coordinator.submit({ name: 'transfer', protocol: 'cross_dataset', source: 'imagenet', methods: ['coop'], datasets, seeds: [1], shots: [16] });
  await worker.work((spec) => accuracies[spec.dataset] ?? null);
  const seen = await open(`/?experiment=${id}`);
  const { page } = seen;
  const names = await page.getByRole('columnheader').allInnerTexts();
  expect(names).toEqual(['Source', 'Targets', 'ImageNet variants', 'Method', 'imagenet', 'caltech101', 'oxford_pets', 'average', 'imagenetv2', 'imagenet_a', 'average']);
  const line = page.getByRole('row').filter({ has: page.getByRole('rowheader', { name: 'CoOp' }) }).getByRole('cell');
  const texts = async () => (await line.allInnerTexts()).map((text) => text.trim().split(/\s/)[0]);
  await eventually(texts).toEqual(['71.00', '94.00', '90.00', '92.00', '64.00', '50.00', '57.00']);
  await expectSound(seen);
});

test('few-shot: tables by data set and by shots, and curves that say what they show', async () => {
  const { id } = await coordinator.submit({ name: 'few', protocol: 'few_shot', methods: ['coop', 'zero_shot'], datasets: ['caltech101', 'sun397'], seeds: [1, 2], shots: [1, 4] });
  await worker.work(({ method, dataset, shots, seed }) => (method === 'zero_shot' ? 60 : 60 + 2 * shots + seed + (dataset === 'sun397' ? 10 : 0)));
  const seen = await open(`/?experiment=${id}`);
  const { page } = seen;
  const values = async (title: string, method: string) =>
    (await row(page, title, method).getByRole('cell').allInnerTexts()).map((text) => text.replaceAll(/\s+/g, ' ').trim());
  // Nothing without shots; then (63 + 64)/2 and (69 + 70)/2.
  await eventually(() => values('caltech101', 'CoOp')).toEqual(['', '63.50 ± 0.50 n=2', '69.50 ± 0.50 n=2']);
  expect(await page.getByRole('columnheader').allInnerTexts()).toEqual(['Method', '0 shots', '1 shot', '4 shots']);

  const curve = page.getByRole('img', { name: 'caltech101: accuracy over shots' });
  await curve.waitFor();
  expect(await curve.locator('desc').textContent()).toBe('Accuracy in per cent over shots. CoOp: 63.5 at 1, 69.5 at 4; CLIP (zero-shot): 60.0 at 0.');
  await page.getByRole('img', { name: 'average over 2 data sets: accuracy over shots' }).waitFor();
  await expectSound(seen);

  await page.getByRole('button', { name: 'by shots' }).click();
  await eventually(() => page.getByRole('columnheader').allInnerTexts()).toEqual(['Method', 'caltech101', 'sun397', 'average']);
  expect((await values('4 shots', 'CoOp'))[1]).toMatch(/^79.50 ± 0.50/);
  await page.getByRole('button', { name: 'curves only' }).click();
  await page.getByRole('table').waitFor({ state: 'detached' });
  await curve.waitFor();
});
