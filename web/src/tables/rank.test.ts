import { expect, it } from 'vitest';

import { example } from './example';
import { ranks } from './rank';

const rows = (...columns: (number | null)[][]) =>
  columns.map((means, i) => ({ key: String(i), label: '', method: '', cells: means.map((mean) => example(mean)) }));

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
it('does not compare averages of which something is missing', () => {
  const average = (mean: number, running: number) => example(mean, { completed: 4, running }, { aggregate: true, dataset: null });
  const row = (mean: number, running: number) => ({ key: '', label: '', method: '', cells: [average(mean, running)] });
  expect(ranks([row(90, 1), row(80, 0), row(70, 0)])).toEqual([[null], ['best'], ['second']]);
});
