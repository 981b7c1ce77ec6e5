// What a list says of a job.

import type { Schemas } from '../api/client';

/// How far a job has come, for those that a worker has.
export function percent({ state, progress }: Pick<Schemas['JobSummary'], 'state' | 'progress'>): string {
  if ((state !== 'running' && state !== 'leased') || !progress || progress.steps === 0) return '';
  return `${Math.floor((100 * progress.step) / progress.steps)} %`;
}
