// What a list says of a job.

import type { Schemas } from '../api/client';

/// How far a job has come, for those that a worker has.
export function percent({ state, progress }: Pick<Schemas['JobSummary'], 'state' | 'progress'>): string {
  if ((state !== 'running' && state !== 'leased') || !progress || progress.steps === 0) return '';
  return `${Math.floor((100 * progress.step) / progress.steps)} %`;
}

/// Why a job failed, or where its result comes from if no job of ours computed it.
export function why({ failure, adopted }: Pick<Schemas['JobSummary'], 'failure' | 'adopted'>): string {
  if (failure) return `${failure.class.replaceAll('_', ' ')}: ${failure.reason}`;
  return adopted === true ? 'adopted: another tool completed its folder' : '';
}
