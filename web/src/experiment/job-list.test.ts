import { expect, it } from 'vitest';

import { percent } from './job-list';

it('says how far a running job has come', () => {
  const progress = { epoch: 1, epochs: 10, step: 48, steps: 481 };
  expect(percent({ state: 'running', progress })).toBe('9 %');
  expect(percent({ state: 'queued', progress })).toBe('');
  expect(percent({ state: 'leased', progress: { ...progress, steps: 0 } })).toBe('');
});
