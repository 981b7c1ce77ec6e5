// Which workers are here.

import type { Schemas } from '../api/client';

export type Worker = Schemas['WorkerSummary'];

/// A worker speaks several times a minute; one that didn't for so long in ms is in trouble.
const STALE = 60_000;

/// Those that are here, by name; and the others, those that left last first.
export function parted(workers: readonly Worker[]): { here: Worker[]; away: Worker[] } {
  const isHere = (worker: Worker) => worker.state === 'active' || worker.state === 'draining';
  return {
    here: workers.filter(isHere).sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }) || a.id - b.id),
    away: workers.filter((worker) => !isHere(worker)).sort((a, b) => b.last_seen.localeCompare(a.last_seen)),
  };
}

export function isStale(worker: Worker, now: Date): boolean {
  return worker.state !== 'gone' && worker.state !== 'lost' && now.getTime() - new Date(worker.last_seen).getTime() > STALE;
}
