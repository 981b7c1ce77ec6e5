import { expect, it } from 'vitest';

import { percent, why } from './job-list';

it('says how far a running job has come', () => {
  const progress = { epoch: 1, epochs: 10, step: 48, steps: 481 };
  expect(percent({ state: 'running', progress })).toBe('9 %');
  expect(percent({ state: 'queued', progress })).toBe('');
  expect(percent({ state: 'leased', progress: { ...progress, steps: 0 } })).toBe('');
});
it('says why a job failed, and that a result was adopted', () => {
  expect(why({ failure: { class: 'out_of_memory', reason: 'no room' }, adopted: false })).toBe('out of memory: no room');
  expect(why({ failure: null, adopted: true })).toBe('adopted: another tool completed its folder');
  expect(why({})).toBe('');
});
