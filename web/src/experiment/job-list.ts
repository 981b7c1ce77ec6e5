// What a list says of a job.

import type { Schemas } from '../api/client';

/// Titles are `train METHOD on DATA SET, …`, or for a method that learns nothing `METHOD on DATA SET, …`.
export function isOfMethod(title: string, method: string): boolean {
  return title.split(' on ')[0]?.split(' ').at(-1) === method;
}

/// How far a job has come, for those that a worker has.
export function percent({ state, progress }: Pick<Schemas['JobSummary'], 'state' | 'progress'>): string {
  if ((state !== 'running' && state !== 'leased') || !progress || progress.steps === 0) return '';
  return `${Math.floor((100 * progress.step) / progress.steps)} %`;
}
