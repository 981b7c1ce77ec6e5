// What can be done with a job.

import type { State } from '../states';

/// Something will still happen to it by itself: so it can be cancelled.
export function isOpen(state: State): boolean {
  return state === 'blocked' || state === 'queued' || state === 'leased' || state === 'running';
}

/// Whether it has a result.
export function isDone(state: State): boolean {
  return state === 'completed' || state === 'skipped';
}
