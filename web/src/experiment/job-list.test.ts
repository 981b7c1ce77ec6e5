import { expect, it } from 'vitest';

import { isOfMethod, percent } from './job-list';

it('tells a method from those whose names begin alike', () => {
  const title = 'train mmrlpp on caltech101, 16 shots, seed 1';
  expect([isOfMethod(title, 'mmrlpp'), isOfMethod(title, 'mmrl'), isOfMethod(title, 'caltech101')]).toEqual([true, false, false]);
  expect(isOfMethod('zero_shot on caltech101, base classes', 'zero_shot')).toBe(true);
});

it('says how far a running job has come', () => {
  const progress = { epoch: 1, epochs: 10, step: 48, steps: 481 };
  expect(percent({ state: 'running', progress })).toBe('9 %');
  expect(percent({ state: 'queued', progress })).toBe('');
  expect(percent({ state: 'leased', progress: { ...progress, steps: 0 } })).toBe('');
});
