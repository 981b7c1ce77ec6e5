// Cells for tests.

import type { Schemas } from '../api/client';
import type { Counts } from '../states';
import { type Cell, EMPTY } from './sheet';

export function jobs(some: Partial<Counts>): Counts {
  return { ...EMPTY, ...some };
}

/// A cell of the coordinator's answer: `mean` with deviation 1 over all its jobs.
export function answered(mean: number | null, counts: Partial<Counts> = { completed: 3 }): Schemas['Cell'] {
  const n = (counts.completed ?? 0) + (counts.skipped ?? 0);
  return { summary: mean === null ? null : { mean, std: 1, n }, jobs: jobs(counts) };
}

export function example(mean: number | null, counts: Partial<Counts> = { completed: 3 }, rest: Partial<Cell> = {}): Cell {
  const { summary, jobs } = answered(mean, counts);
  return { summary: summary ?? null, jobs, aggregate: false, beside: null, dataset: 'dtd', ...rest };
}
