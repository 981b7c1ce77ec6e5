// What the states of a job are called, in the order in which they are shown.

import type { Schemas } from './api/client';

export type State = Schemas['JobStateName'];
export type Counts = Schemas['Counts'];

export const STATES: readonly State[] = ['completed', 'skipped', 'running', 'leased', 'queued', 'blocked', 'failed', 'cancelled'];

/// What a state means, for who meets it the first time.
export const MEANINGS: Record<State, string> = {
  completed: 'has its result',
  skipped: 'was complete already: its output was found',
  running: 'a worker is at it',
  leased: 'a worker has just taken it',
  queued: 'waits for a worker',
  blocked: 'waits for the training whose checkpoint it tests',
  failed: 'failed for good',
  cancelled: 'someone cancelled it',
};

export function total(counts: Counts): number {
  return STATES.reduce((sum, state) => sum + counts[state], 0);
}

/// Whether something will still happen to a job by itself: so it can be cancelled.
export function isOpen(state: State): boolean {
  return state === 'blocked' || state === 'queued' || state === 'leased' || state === 'running';
}

/// Jobs with a result.
export function done(counts: Counts): number {
  return counts.completed + counts.skipped;
}

/// Jobs to which something will still happen by itself.
export function open(counts: Counts): number {
  return STATES.filter(isOpen).reduce((sum, state) => sum + counts[state], 0);
}
