import { describe, expect, it } from 'vitest';

import type { Counts } from '../states';
import { example } from './example';
import { ranks, unranked } from './rank';
import type { Cell } from './sheet';

const rows = (...columns: (number | null)[][]) =>
  columns.map((means, i) => ({ key: String(i), label: '', method: '', variant: '', cells: means.map((mean) => example(mean)) }));

it('finds best and second of each column', () => {
  expect(ranks(rows([1, 9], [3, 8], [2, 7]))).toEqual([[null, 'best'], ['best', 'second'], ['second', null]]);
});
it('lets those rank alike that are printed alike', () => {
  expect(ranks(rows([83.121], [83.119], [83.1], [83.104], [80]))).toEqual([['best'], ['best'], ['second'], ['second'], [null]]);
});
it('passes over what is missing', () => {
  expect(ranks(rows([null], [2], [1]))).toEqual([[null], ['best'], ['second']]);
});
it('calls nothing best that stands alone', () => {
  expect(ranks(rows([5], [null]))).toEqual([[null], [null]]);
  expect(ranks([])).toEqual([]);
});
describe('averages', () => {
  const average = (mean: number | null, open: Partial<Counts> = {}) => example(mean, { completed: 4, ...open }, { aggregate: true, dataset: null });
  const table = (...cells: Cell[]) => cells.map((cell, i) => ({ key: String(i), label: '', method: '', variant: '', cells: [cell] }));
  const none = example(null, {}, { aggregate: true, dataset: null });

  it('have no best and no second while a job of one of them is missing, whatever became of it', () => {
    for (const open of [{ running: 1 }, { queued: 1 }, { failed: 1 }, { cancelled: 1 }]) {
      const rows = table(average(70, open), average(80), average(75));
      expect(ranks(rows)).toEqual([[null], [null], [null]]);
      expect(unranked(rows)).toEqual([true]);
    }
    expect(ranks(table(average(null, { completed: 0, queued: 4 }), average(80), average(75)))).toEqual([[null], [null], [null]]);
  });
  it('are compared when each is of all', () => {
    const rows = table(average(90), average(80), average(70));
    expect(ranks(rows)).toEqual([['best'], ['second'], [null]]);
    expect(unranked(rows)).toEqual([false]);
  });
  it('of a method that has none are no candidates', () => {
    const rows = table(none, average(80), average(70));
    expect(ranks(rows)).toEqual([[null], ['best'], ['second']]);
    expect(unranked(table(none, average(80, { running: 1 })))).toEqual([false]);
  });
});
it('compares means over the seeds that are in, which the star tells', () => {
  const cells = [example(90, { completed: 1, running: 2 }), example(80)];
  expect(ranks(cells.map((cell, i) => ({ key: String(i), label: '', method: '', variant: '', cells: [cell] })))).toEqual([['best'], ['second']]);
});
