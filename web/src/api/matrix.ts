// An experiment's jobs in few bytes, and what is done with many of them at once.

import { type Schemas, api, ask } from './client';

/// Method, data set, variant, stage and state are places in the lists of the [`Matrix`].
export type MatrixJob = readonly [
  id: number,
  method: number,
  dataset: number,
  variant: number,
  shots: number,
  seed: number,
  stage: number,
  state: number,
];

export type Matrix = Omit<Schemas['Matrix'], 'jobs'> & { jobs: MatrixJob[] };

export async function matrixOf(id: number): Promise<Matrix> {
  const matrix = await ask(api.GET('/api/v1/experiments/{id}/matrix', { params: { path: { id } } }));
  // The document can't say that lists have eight numbers; it says so in words.
  return matrix as unknown as Matrix;
}

/// How many jobs are in another state now.
export async function changeJobs(what: 'cancel' | 'retry', jobs: readonly number[]): Promise<number> {
  const { changed } = await ask(api.POST(`/api/v1/jobs/${what}`, { body: { jobs: [...jobs] } }));
  return changed;
}
