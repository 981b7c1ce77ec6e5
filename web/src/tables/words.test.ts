import { describe, expect, it } from 'vitest';

import { example } from './example';
import { basis, lacks, mean, signature, standing, value, verdict } from './words';

describe('a cell', () => {
  const cells = {
    none: example(null, {}),
    final: example(83.123, { completed: 2, skipped: 1 }),
    waiting: example(null, { queued: 2, blocked: 1 }),
    provisional: example(83, { completed: 2, running: 1 }),
    partlyFailed: example(83, { completed: 2, failed: 1 }),
    average: example(83, { completed: 18, running: 2, queued: 13 }, { aggregate: true }),
    averageFailed: example(83, { completed: 18, failed: 2 }, { aggregate: true }),
    failed: example(null, { failed: 3 }),
    mixed: example(null, { failed: 1, cancelled: 2 }),
    retried: example(null, { failed: 1, queued: 2 }),
    cancelled: example(null, { cancelled: 3 }),
  };
  const all = <T>(words: (cell: (typeof cells)['none']) => T) =>
    Object.fromEntries(Object.entries(cells).map(([name, cell]) => [name, words(cell)]));

  it('stands somewhere', () => {
    expect(all(standing)).toEqual({
      none: 'none', final: 'final', waiting: 'open', provisional: 'open', partlyFailed: 'failed', average: 'open',
      averageFailed: 'failed', failed: 'failed', mixed: 'failed', retried: 'open', cancelled: 'cancelled',
    });
  });
  it('shows its number, or what stands in its place', () => {
    expect(all(value)).toEqual({
      none: '', final: '83.12 ± 1.00', waiting: '–', provisional: '83.00 ± 1.00', partlyFailed: '83.00 ± 1.00',
      average: '83.00 ± 1.00', averageFailed: '83.00 ± 1.00', failed: 'failed', mixed: 'failed', retried: '–',
      cancelled: 'cancelled',
    });
  });
  it('says what it rests on', () => {
    expect(all(basis)).toEqual({
      none: '', final: 'n=3', waiting: '0/3', provisional: '2/3', partlyFailed: '1/3 failed', average: '18/33 jobs',
      averageFailed: '2 failed', failed: '0/3', mixed: '0/3', retried: '0/3', cancelled: '0/3',
    });
  });
  it('says what it lacks', () => {
    expect(all(lacks)).toEqual({
      none: null, final: null, waiting: 'no result yet: 0 of 3 seeds', provisional: 'provisional: 2 of 3 seeds, 1 running',
      partlyFailed: 'provisional: 2 of 3 seeds, 1 failed', average: 'provisional: 18 of 33 jobs, 2 running',
      averageFailed: 'provisional: 18 of 20 jobs, 2 failed', failed: 'no result yet: 0 of 3 seeds, 3 failed',
      mixed: 'no result yet: 0 of 3 seeds, 1 failed, 2 cancelled', retried: 'no result yet: 0 of 3 seeds, 1 failed',
      cancelled: 'no result yet: 0 of 3 seeds, 3 cancelled',
    });
  });
  it('has no deviation over one seed', () => {
    expect(mean({ mean: 50, std: 0, n: 1 })).toBe('50.00');
  });
  it('is another when something that it shows is', () => {
    expect(signature(example(83.121))).toBe(signature(example(83.124)));
    expect(signature(example(83))).not.toBe(signature(cells.provisional));
  });
});

describe('a difference to a published number', () => {
  it('is judged by the spread', () => {
    expect([verdict(0.4, 0.4), verdict(-0.4, 0.4), verdict(0.41, 0.4), verdict(-0.41, 0.4)]).toEqual(['within', 'within', 'above', 'below']);
  });
  it('is nothing where it rounds to nothing', () => {
    expect([verdict(0.004, 0), verdict(-0.02, 0)]).toEqual(['within', 'below']);
  });
});
