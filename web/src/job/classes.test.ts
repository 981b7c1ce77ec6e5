import { describe, expect, it } from 'vitest';

import { classRows, ordered } from './classes';

const EVALUATION = {
  classes: [
    { name: 'lotus', images: 4, predicted: 5, correct: 4, confused: [] },
    { name: 'bonsai', images: 10, predicted: 0, correct: 0, confused: [[0, 1], [2, 8], [9, 1]] },
    { name: 'crab', images: 8, predicted: 8, correct: 6, confused: [[0, 2]] },
  ],
};

describe('classes', () => {
  it('have their shares, and what they were taken for', () => {
    const [lotus, bonsai] = classRows(EVALUATION);
    expect(lotus).toMatchObject({ recall: 100, precision: 80, confused: [] });
    expect(bonsai).toMatchObject({ recall: 0, precision: null });
    expect(bonsai?.confused).toEqual([{ name: 'crab', images: 8 }, { name: 'lotus', images: 1 }, { name: 'class 9', images: 1 }]);
  });
  it('can be ordered', () => {
    const rows = classRows(EVALUATION);
    expect(ordered(rows, 'worst').map((row) => row.name)).toEqual(['bonsai', 'crab', 'lotus']);
    expect(ordered(rows, 'name').map((row) => row.name)).toEqual(['bonsai', 'crab', 'lotus']);
    expect(ordered(rows, 'given')).toEqual(rows);
  });
});
