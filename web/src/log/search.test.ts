import { describe, expect, it } from 'vitest';

import { find, pattern, pieces, step } from './search';

const LINES = ['epoch [1/10] loss 2.5', 'Epoch [2/10] loss 2.0', '=> result', 'accuracy: 54.6%'];

function search(words: string): number[] {
  const found: number[] = [];
  const what = pattern(words);
  if (what !== null) find(LINES, what, 0, found);
  return found;
}

describe('search', () => {
  it('finds words in any case, and takes every character for itself', () => {
    expect(search('epoch')).toEqual([0, 1]);
    expect(search('[1/10]')).toEqual([0]);
    expect(search('.')).toEqual([0, 1, 3]);
    expect(search('a-z')).toEqual([]);
    expect(search('')).toEqual([]);
  });

  it('goes on where it was', () => {
    const found = [0];
    find(LINES, /loss/i, 1, found);
    expect(found).toEqual([0, 1]);
  });

  it('goes round the end', () => {
    expect([step([2, 5], 2, 1), step([2, 5], 5, 1), step([2, 5], 2, -1), step([], 0, 1)]).toEqual([5, 2, 5, null]);
    expect(step([2, 5], -1, 1)).toBe(2);
  });
});

describe('pieces', () => {
  it('are what matches and what is between', () => {
    expect(pieces('loss 2.5 LOSS', pattern('loss'))).toEqual(['', 'loss', ' 2.5 ', 'LOSS', '']);
    expect(pieces('nothing', null)).toEqual(['nothing']);
  });
});
