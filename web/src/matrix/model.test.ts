import { expect, it, vi } from 'vitest';

import type { Matrix } from '../api/matrix';
import type { Schemas } from '../api/client';
import { Model } from './model.svelte';

vi.stubGlobal('requestAnimationFrame', (then: () => void) => (then(), 0));

const MATRIX: Matrix = {
  methods: ['mmrl'],
  datasets: ['dtd'],
  variants: [''],
  stages: ['train', 'test'],
  // Not in the order in which they are shown.
  states: ['failed', 'queued', 'completed'],
  jobs: [[11, 0, 0, 0, 16, 1, 0, 1], [12, 0, 0, 0, 16, 1, 1, 0], [13, 0, 0, 0, 16, 2, 0, 2]],
};

const changed = (job: number, to: Schemas['JobStateName']): Schemas['Event'] => ({ sequence: 1, at: '', type: 'job_changed', job, to });

it('follows events of its jobs, and of no others', () => {
  const model = new Model(MATRIX);
  expect(model.counts).toMatchObject({ queued: 1, failed: 1, completed: 1, running: 0 });
  expect(model.take(changed(11, 'running'))).toBe(true);
  expect(model.take(changed(99, 'running'))).toBe(false);
  expect(model.counts).toMatchObject({ queued: 0, running: 1 });
  expect(model.stateOf(0)).toBe('running');
});

it('has a selection, of which only some can be cancelled', () => {
  const model = new Model(MATRIX);
  model.select(model.having(['queued', 'failed']), true);
  expect([model.selectedCount, model.chosen(['queued']), model.chosen(['failed'])]).toEqual([2, [11], [12]]);
  model.toggle(1);
  expect([...model.selected]).toEqual([0]);
  const later = new Model({ ...MATRIX, jobs: MATRIX.jobs.toReversed() });
  later.selectAsIn(model);
  expect(later.chosen(['queued'])).toEqual([11]);
});
