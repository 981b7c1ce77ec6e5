import { describe, expect, it } from 'vitest';

import { example } from './example';
import { type Sheet } from './sheet';
import { ariaSort, next, parse, sorted } from './sort';

describe('an order', () => {
  it('is read from the address', () => {
    expect(parse('-h')).toEqual({ by: 'h', descending: true });
    expect(parse('name')).toEqual({ by: 'name', descending: false });
    expect([parse(null), parse(''), parse('-')]).toEqual([null, null, null]);
  });
  it('goes round with each click', () => {
    expect([null, '-h', 'h', '-base'].map((now) => next(parse(now), 'h'))).toEqual(['-h', 'h', null, '-h']);
    expect([null, 'name', '-name'].map((now) => next(parse(now), 'name'))).toEqual(['name', '-name', null]);
  });
  it('is said of its own column only', () => {
    expect([ariaSort(parse('-h'), 'h'), ariaSort(parse('h'), 'h'), ariaSort(parse('h'), 'base')]).toEqual(['descending', 'ascending', undefined]);
  });
});

describe('sorted', () => {
  const row = (label: string, mean: number | null) => ({ key: label, label, method: label, variant: '', cells: [example(mean)] });
  const sheet: Sheet = {
    columns: [{ key: 'h', label: 'H', over: null, dataset: null }],
    groups: [
      { key: 'a', title: 'a', dataset: 'a', rows: [row('m10', 1), row('m2', null), row('k', 3)] },
      { key: 'b', title: 'b', dataset: 'b', rows: [row('m10', 5), row('m2', 4), row('k', null)] },
    ],
    grouped: true,
    compared: false,
  };
  const names = (order: string | null) => sorted(sheet, parse(order)).groups.map((group) => group.rows.map((row) => row.label).join(' '));

  it('keeps groups together and what is missing last', () => {
    expect(names('-h')).toEqual(['k m10 m2', 'm10 m2 k']);
    expect(names('h')).toEqual(['m10 k m2', 'm2 m10 k']);
  });
  it('sorts names as people do', () => {
    expect(names('name')).toEqual(['k m2 m10', 'k m2 m10']);
  });
  it('keeps the order without a column', () => {
    expect(names(null)).toEqual(names('gone'));
  });
});
