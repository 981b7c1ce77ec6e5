// Which workers are here.

import type { Schemas } from '../api/client';
import { duration } from '../format';

export type Worker = Schemas['WorkerSummary'];

/// A worker speaks several times a minute; one that didn't for so long in ms is in trouble.
const STALE = 60_000;

/// Those that are here, by name; and the others, those that left last first.
export function parted(workers: readonly Worker[]): { here: Worker[]; away: Worker[] } {
  return {
    here: workers.filter(isHere).sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }) || a.id - b.id),
    away: workers.filter((worker) => !isHere(worker)).sort((a, b) => b.last_seen.localeCompare(a.last_seen)),
  };
}

function isHere({ state }: Worker): boolean {
  return state === 'active' || state === 'draining';
}

/// How long a worker that is here has until it's ended from outside; `null` if nobody will.
export function timeLeft(worker: Worker, now: Date): string | null {
  const { registered_at, time_left_ms } = worker;
  if (time_left_ms == null || !isHere(worker)) return null;
  const left = new Date(registered_at).getTime() + time_left_ms - now.getTime();
  return left > 0 ? `${duration(left)} left` : 'its time is up';
}

export function isStale(worker: Worker, now: Date): boolean {
  return isHere(worker) && now.getTime() - new Date(worker.last_seen).getTime() > STALE;
}

/// The backbones for which a worker that is here has other weights than their names are pinned to, a sentence each.
export function otherBackbones(worker: Worker, pins: readonly Schemas['PinnedBackbone'][]): string[] {
  if (!isHere(worker)) return [];
  return pins.flatMap(({ backbone, sha256 }) => {
    const own = worker.backbone_sha256?.[backbone];
    if (own === undefined || own === sha256) return [];
    return [`no jobs with ${backbone}: its weights are ${short(own)}, and the name is pinned to ${short(sha256)}`];
  });
}

/// As many digits of a hash as the coordinator's sentences have.
function short(sha256: string): string {
  return sha256.slice(0, 12);
}
