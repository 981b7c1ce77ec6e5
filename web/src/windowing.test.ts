import { describe, expect, it } from 'vitest';

import { range, reveal } from './windowing';

describe('range', () => {
  it('has what can be seen and a little more', () => {
    expect(range(0, 200, 20, 1000)).toEqual({ first: 0, end: 18 });
    expect(range(4000, 200, 20, 1000)).toEqual({ first: 192, end: 218 });
    expect(range(19_800, 200, 20, 1000)).toEqual({ first: 982, end: 1000 });
  });

  it('has all of a short list, and nothing of an empty one', () => {
    expect(range(0, 200, 20, 5)).toEqual({ first: 0, end: 5 });
    expect(range(0, 200, 20, 0)).toEqual({ first: 0, end: 0 });
  });

  it('never leaves the list, wherever it is scrolled', () => {
    for (const count of [0, 1, 17, 1000]) {
      for (const top of [-50, 0, 13, 19_999, 1e7]) {
        const { first, end } = range(top, 300, 20, count);
        expect(first).toBeGreaterThanOrEqual(0);
        expect(end).toBeLessThanOrEqual(count);
        expect(end - first).toBeGreaterThanOrEqual(Math.min(count, 1));
      }
    }
  });
});

describe('reveal', () => {
  it('leaves the list where it is if the row can be seen', () => {
    expect(reveal(12, 20, 200, 100)).toBe(200);
  });
  it('goes by one row at the edges', () => {
    expect(reveal(9, 20, 200, 100)).toBe(180);
    expect(reveal(15, 20, 200, 100)).toBe(220);
  });
  it('goes to the middle from afar, but not beyond the beginning', () => {
    expect(reveal(500, 20, 200, 100)).toBe(9960);
    expect(reveal(1, 20, 2000, 100)).toBe(0);
  });
});
