import { describe, expect, it } from 'vitest';

import { brief, columns, figure, groups, short, spread } from './groups';

const POINT = {
  step: 0,
  values: { acc: 25, loss: 2, 'loss/ce': 1.5, 'loss/final_norm': 0.3, 'loss/attention_norm': 0.2, lr: 1e-5, speed: 7 },
};

describe('groups', () => {
  it('are by what the names say', () => {
    expect(groups([POINT]).map((group) => [group.key, ...group.names])).toEqual([
      ['loss', 'loss', 'loss/ce'],
      ['accuracy', 'acc'],
      ['norms', 'loss/attention_norm', 'loss/final_norm'],
      ['rate', 'lr'],
      ['other', 'speed'],
    ]);
    expect(groups([])).toEqual([]);
  });
  it('call terms by their own names', () => {
    expect(['loss', 'loss/ce_rep', 'lr'].map(short)).toEqual(['loss', 'ce_rep', 'lr']);
  });
});

describe('columns', () => {
  it('have a gap where a step has no value', () => {
    const points = [{ step: 10, values: { a: 1 } }, { step: 0, values: { a: 2, b: 3 } }];
    expect(columns(points, ['a', 'b'])).toEqual([[0, 10], [2, 1], [3, null]]);
  });
  it('of two jobs share their steps', () => {
    const mine = [{ step: 0, values: { a: 1 } }, { step: 2, values: { a: 2 } }];
    const other = [{ step: 1, values: { a: 8 } }, { step: 2, values: { a: 9 } }];
    expect(columns(mine, ['a'], other)).toEqual([[0, 1, 2], [1, null, 2], [null, 8, 9]]);
  });
});

describe('figures', () => {
  it('have four digits', () => {
    expect([10.882575, 0.25181, 0, 100, 0.00001, 1234567, null].map(figure)).toEqual(['10.88', '0.2518', '0', '100', '1.00e-5', '1.23e+6', '–']);
  });
});

describe('labels', () => {
  it('are moved apart, and stay within the chart', () => {
    expect(spread([10, 12, 50], 14, 100)).toEqual([10, 24, 50]);
    expect(spread([95, 99, 98], 14, 100)).toEqual([72, 100, 86]);
    expect(spread([], 14, 100)).toEqual([]);
  });
});

describe('brief', () => {
  it('cuts what is too long for the end of a line', () => {
    expect(brief('loss/ce_rep')).toBe('ce_rep');
    expect(brief('x'.repeat(24))).toBe('x'.repeat(24));
    expect(brief('x'.repeat(25))).toBe(`${'x'.repeat(23)}…`);
  });
});
