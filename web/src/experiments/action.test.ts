import { expect, it } from 'vitest';

import { jobs } from '../tables/example';
import { CONFIRM } from './action';

it('says what will be lost', () => {
  expect(CONFIRM.cancel.says(jobs({ queued: 3, running: 1, leased: 1, completed: 9 }))).toBe(
    '5 jobs will not be done, 2 of them in the middle of their work. What is complete stays, and what another experiment wants too.',
  );
  expect(CONFIRM.cancel.says(jobs({ blocked: 1 }))).toBe('1 job will not be done. What is complete stays, and what another experiment wants too.');
});
it('says what will be queued again', () => {
  expect(CONFIRM.retry.says(jobs({ failed: 2, cancelled: 1 }))).toBe('Will be queued again: 2 jobs that failed and 1 job cancelled.');
  expect(CONFIRM.retry.says(jobs({ failed: 1 }))).toBe('Will be queued again: 1 job that failed.');
});
it('says what was done', () => {
  expect([CONFIRM.cancel.done(1), CONFIRM.retry.done(1200)]).toEqual(['1 job cancelled', '1\u202f200 jobs queued again']);
});
