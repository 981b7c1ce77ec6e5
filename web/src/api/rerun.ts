// Jobs that have results are computed again.

import { api, ask } from './client';

/// The kind of problem when other experiments show these results too, and nobody said that it is meant for them as well.
export const SHARED = '/problems/shared-jobs';

/// Queues an experiment's stale results again. How many jobs that are.
export async function rerunStale(id: number, shared: boolean): Promise<number> {
  const { changed } = await ask(api.POST('/api/v1/experiments/{id}/rerun', { params: { path: { id }, query: { stale: true, shared } } }));
  return changed;
}

/// Queues a job again, with the tests of its checkpoint. How many jobs that are.
export async function rerunJob(id: number, shared: boolean): Promise<number> {
  const { changed } = await ask(api.POST('/api/v1/jobs/{id}/rerun', { params: { path: { id }, query: { shared } } }));
  return changed;
}
