import { expect, test } from 'vitest';

import { nextTrial, subject } from './faults';

test('a fault is said in words', () => {
  expect(subject({ of: 'dataset', name: 'dtd' })).toBe('the data set dtd');
  expect(subject({ of: 'job', name: 7 })).toBe('what is needed for job 7');
});

test('when it is tried again is said', () => {
  const at = '2026-11-30T10:10:00.000Z';
  const now = Date.parse('2026-11-30T10:00:00.000Z');
  expect(nextTrial({ trial: 9, next_trial: at }, now)).toBe('lease 9 tries it');
  expect(nextTrial({ trial: null, next_trial: at }, now)).toBe('tried again in 10 min');
  expect(nextTrial({ trial: null, next_trial: at }, now + 600_000)).toBe('the next job tries it');
});
