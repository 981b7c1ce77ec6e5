import { describe, expect, it } from 'vitest';

import type { Schemas } from '../api/client';
import { answered } from './example';
import { type Sheet, type Table, jobsOf } from './sheet';
import { captionOf, sheetOf, viewOf } from './views';
import { methods, visible } from './visible';
import { value } from './words';

const label = (method: string) => (method === 'mmrlpp' ? 'MMRL++' : method);

/// A sheet as text: a line for each row.
function lines({ columns, groups }: Sheet): string[] {
  const heading = columns.map((column) => (column.over === null ? column.label : `${column.over}/${column.label}`)).join(' | ');
  return [heading, ...groups.flatMap(({ title, rows }) => rows.map((row) => `${title}: ${row.label} | ${row.cells.map(value).join(' | ')}`))];
}

type Line = Schemas['BaseToNewRow'];
const line = (dataset: string | null, method: Line['method'], base: number | null, more: Partial<Line> = {}): Line => ({
  dataset,
  method,
  shots: method === 'zero_shot' ? 0 : 16,
  variant: '',
  base: answered(base, base === null ? { queued: 3 } : { completed: 3 }),
  new: answered(50),
  harmonic_mean: base === null ? null : { mean: base - 10, std: 2, n: 3 },
  ...more,
});

describe('base-to-new', () => {
  const published = {
    base: { published: 80, difference: 1 }, new: { published: 49, difference: 1 }, harmonic_mean: { published: 70, difference: 1 },
  };
  const table: Table = {
    protocol: 'base_to_new',
    rows: [line('dtd', 'mmrlpp', 81, { published }), line('dtd', 'zero_shot', 60), line('eurosat', 'mmrlpp', null)],
    average: [line(null, 'mmrlpp', 81), line(null, 'zero_shot', 60)],
  };

  it('has data sets and methods down', () => {
    const sheet = sheetOf(table, 'datasets', label);
    expect(lines(sheet)).toEqual([
      'Base | New | H',
      'dtd: MMRL++ | 81.00 ± 1.00 | 50.00 ± 1.00 | 71.00 ± 2.00',
      'dtd: zero_shot | 60.00 ± 1.00 | 50.00 ± 1.00 | 50.00 ± 2.00',
      'eurosat: MMRL++ | – | 50.00 ± 1.00 | –',
      'average over 2 data sets: MMRL++ | 81.00 ± 1.00 | 50.00 ± 1.00 | 71.00 ± 2.00',
      'average over 2 data sets: zero_shot | 60.00 ± 1.00 | 50.00 ± 1.00 | 50.00 ± 2.00',
    ]);
    const first = sheet.groups[0]?.rows[0]?.cells;
    expect(first?.map((cell) => cell.beside?.published)).toEqual([80, 49, 70]);
    expect(first?.map((cell) => [cell.dataset, cell.aggregate, cell.jobs.completed])).toEqual([['dtd', false, 3], ['dtd', false, 3], ['dtd', true, 6]]);
    expect(sheet.groups[2]?.rows[0]?.cells.map((cell) => [cell.dataset, cell.aggregate])).toEqual([[null, true], [null, true], [null, true]]);
    expect(sheet.compared).toBe(true);
  });
  it('has methods down and H across, with nothing where a method has no such data set', () => {
    expect(lines(sheetOf(table, 'methods', label))).toEqual([
      'dtd | eurosat | average',
      ': MMRL++ | 71.00 ± 2.00 | – | 71.00 ± 2.00',
      ': zero_shot | 50.00 ± 2.00 |  | 50.00 ± 2.00',
    ]);
    expect(captionOf('base_to_new', 'methods')).toContain('(H)');
  });
  it('has no average of one data set', () => {
    const one = { ...table, rows: table.rows.slice(0, 2) };
    expect(sheetOf(one, 'datasets', label).groups).toHaveLength(1);
    expect(lines(sheetOf(one, 'methods', label))[0]).toBe('dtd');
  });
  it('names shots where they differ, and variants', () => {
    const rows = [line('dtd', 'mmrlpp', 1), line('dtd', 'mmrlpp', 2, { shots: 4, variant: 'lr=0.1' }), line('dtd', 'zero_shot', 3)];
    const names = sheetOf({ ...table, rows }, 'datasets', label).groups[0]?.rows.map((row) => row.label);
    expect(names).toEqual(['MMRL++, 16 shots', 'MMRL++, 4 shots (lr=0.1)', 'zero_shot']);
  });
  it('has cells that lead to their own jobs', () => {
    const rows = [line('dtd', 'mmrlpp', 1, { variant: 'lr=0.1' }), line('dtd', 'mmrlpp', 2, { shots: 4 }), line('dtd', 'zero_shot', 3)];
    const queries = (sheet: Sheet) => sheet.groups.map(({ rows }) => rows.map((row) => row.cells.map((cell) => decodeURIComponent(jobsOf(row, cell).toString()))));
    const [own] = queries(sheetOf({ ...table, rows }, 'datasets', label));
    expect(own?.[0]).toEqual([
      'tab=jobs&dataset=dtd&method=mmrlpp&variant=lr=0.1&shots=16&stage=train',
      'tab=jobs&dataset=dtd&method=mmrlpp&variant=lr=0.1&shots=16&stage=test',
      'tab=jobs&dataset=dtd&method=mmrlpp&variant=lr=0.1&shots=16',
    ]);
    expect(own?.[1]?.[0]).toBe('tab=jobs&dataset=dtd&method=mmrlpp&shots=4&stage=train');
    expect(queries(sheetOf(table, 'datasets', label)).at(-1)?.[0]?.[0]).toBe('tab=jobs&method=mmrlpp&stage=train');
  });
  it('shows what is chosen; averages stay', () => {
    const sheet = sheetOf(table, 'datasets', label);
    expect(methods(table)).toEqual(['mmrlpp', 'zero_shot']);
    expect(visible(sheet, { hidden: ['mmrlpp'], filter: '' }).groups.map((group) => group.title)).toEqual(['dtd', 'average over 2 data sets']);
    expect(visible(sheet, { hidden: [], filter: ' EURO' }).groups.map((group) => group.title)).toEqual(['eurosat', 'average over 2 data sets']);
    expect(lines(visible(sheetOf(table, 'methods', label), { hidden: ['zero_shot'], filter: 'd' }))).toEqual([
      'dtd | average',
      ': MMRL++ | 71.00 ± 2.00 | 71.00 ± 2.00',
    ]);
  });
});

describe('cross-dataset', () => {
  const row = { method: 'mmrlpp' as const, shots: 16, variant: '', source: answered(70), average: answered(2), variants_average: answered(4) };
  const table = (targets: string[]): Table => ({
    protocol: 'cross_dataset', source: 'imagenet', targets, rows: [{ ...row, targets: targets.map((_, i) => answered(10 + i)) }],
  });

  it('has the source, the targets, the variants, and the means of both', () => {
    expect(lines(sheetOf(table(['dtd', 'imagenet_a', 'eurosat', 'imagenet_r']), '', label))).toEqual([
      'Source/imagenet | Targets/dtd | Targets/eurosat | Targets/average | ImageNet variants/imagenet_a | ImageNet variants/imagenet_r | ImageNet variants/average',
      ': MMRL++ | 70.00 ± 1.00 | 10.00 ± 1.00 | 12.00 ± 1.00 | 2.00 ± 1.00 | 11.00 ± 1.00 | 13.00 ± 1.00 | 4.00 ± 1.00',
    ]);
  });
  it('has no mean of one', () => {
    expect(lines(sheetOf(table(['dtd']), '', label))[0]).toBe('Source/imagenet | Targets/dtd');
  });
});

describe('few-shot', () => {
  const none = answered(null, {});
  const table: Table = {
    protocol: 'few_shot',
    shots: [0, 1, 4],
    rows: [
      { dataset: 'dtd', method: 'mmrlpp', variant: '', cells: [none, answered(41), answered(44)] },
      { dataset: 'dtd', method: 'zero_shot', variant: '', cells: [answered(40), none, none] },
      { dataset: 'eurosat', method: 'mmrlpp', variant: '', cells: [none, answered(51), answered(null, { running: 3 })] },
    ],
    average: [
      { dataset: null, method: 'mmrlpp', variant: '', cells: [none, answered(46), answered(44)] },
      { dataset: null, method: 'zero_shot', variant: '', cells: [answered(40), none, none] },
    ],
  };

  it('has shots across', () => {
    expect(lines(sheetOf(table, 'datasets', label))).toEqual([
      '0 shots | 1 shot | 4 shots',
      'dtd: MMRL++ |  | 41.00 ± 1.00 | 44.00 ± 1.00',
      'dtd: zero_shot | 40.00 ± 1.00 |  | ',
      'eurosat: MMRL++ |  | 51.00 ± 1.00 | –',
      'average over 2 data sets: MMRL++ |  | 46.00 ± 1.00 | 44.00 ± 1.00',
      'average over 2 data sets: zero_shot | 40.00 ± 1.00 |  | ',
    ]);
  });
  it('has cells that lead to the jobs of their shots', () => {
    const [row] = sheetOf(table, 'shots', label).groups[2]?.rows ?? [];
    expect(row?.cells.map((cell) => jobsOf(row, cell).toString())).toEqual([
      'tab=jobs&dataset=dtd&method=mmrlpp&shots=4', 'tab=jobs&dataset=eurosat&method=mmrlpp&shots=4', 'tab=jobs&method=mmrlpp&shots=4',
    ]);
  });
  it('has data sets across, for each number of shots those methods that have it', () => {
    const sheet = sheetOf(table, 'shots', label);
    expect(lines(sheet)).toEqual([
      'dtd | eurosat | average',
      '0 shots: zero_shot | 40.00 ± 1.00 |  | 40.00 ± 1.00',
      '1 shot: MMRL++ | 41.00 ± 1.00 | 51.00 ± 1.00 | 46.00 ± 1.00',
      '4 shots: MMRL++ | 44.00 ± 1.00 | – | 44.00 ± 1.00',
    ]);
    expect(sheet.groups[2]?.rows[0]?.cells.map((cell) => [cell.dataset, cell.aggregate])).toEqual([['dtd', false], ['eurosat', false], [null, true]]);
  });
});

it('falls back to the usual view', () => {
  expect([viewOf('base_to_new', 'x'), viewOf('few_shot', 'curves'), viewOf('cross_dataset', 'shots')]).toEqual(['datasets', 'curves', '']);
});
