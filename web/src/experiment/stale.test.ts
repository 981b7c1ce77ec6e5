import { expect, it } from 'vitest';

import { rerunQuestion, staleWords } from './stale';

const list = { because: 'the test list of `icons` was 0, and is 1 now' };
const backbone = { because: 'the backbone `b` was 0, and it is pinned to 1' };

it('says how many results are stale, and why', () => {
  expect(staleWords([list])).toBe('1 result is stale: the test list of `icons` was 0, and is 1 now.');
  expect(staleWords([list, list])).toBe('2 results are stale: the test list of `icons` was 0, and is 1 now.');
  expect(staleWords([list, backbone, list])).toBe('3 results are stale, for 2 reasons, which stand below its table.');
});
it('asks before they are computed again', () => {
  expect(rerunQuestion(4, [list])).toMatch(/^Compute the stale result of experiment 4 again/);
  expect(rerunQuestion(4, [list, backbone])).toMatch(/^Compute the 2 stale results of experiment 4 again/);
});
