import { expect, it } from 'vitest';

import { average, latest, shares } from './usage';

it('shares are of the whole, and never more', () => {
  expect(shares([0, 1, null, 5], 2)).toEqual([0, 0.5, null, 1]);
  expect(shares([1], 0)).toEqual([1]);
});

it('what is unknown is no nothing', () => {
  expect(average([1, null, 0])).toBe(0.5);
  expect(average([null])).toBeNull();
  expect(latest([1, 2, null])).toBe(2);
  expect(latest([])).toBeNull();
});
