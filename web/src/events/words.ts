// Events in words, and which of them are wanted.

import type { Schemas } from '../api/client';
import { STATES } from '../states';
import { PILOT_STATES, POOL_STATES } from '../workers/pools';

type Event = Schemas['Event'];

export const KINDS: Record<Event['type'], string> = {
  job_changed: 'jobs',
  worker_changed: 'workers',
  pool_changed: 'pools',
  pilot_changed: 'pilots',
  experiment_submitted: 'experiments submitted',
  experiment_cancelled: 'experiments cancelled',
  experiment_finished: 'experiments finished',
};

/// States to choose from, by what has them; what several have stands with the first.
export const STATES_BY_OWNER: readonly [string, readonly string[]][] = [
  ['of jobs', STATES],
  ['of workers', ['active', 'draining', 'gone', 'lost']],
  ['of pools', Object.keys(POOL_STATES).filter((state) => state !== 'active')],
  ['of pilots', Object.keys(PILOT_STATES).filter((state) => !(STATES as readonly string[]).includes(state))],
];

export type Said = { what: string; href: string; happened: string; why: string };

export function said(event: Event): Said {
  switch (event.type) {
    case 'job_changed': {
      const worker = typeof event.worker === 'number' ? ` by worker ${event.worker}` : '';
      const from = event.from ? `${event.from} → ` : '';
      return { what: `job ${event.job}`, href: `/jobs/${event.job}`, happened: `${from}${event.to}${worker}`, why: event.reason ?? '' };
    }
    case 'worker_changed':
      return { what: `worker ${event.worker}, ${event.name}`, href: '/workers', happened: event.to, why: '' };
    case 'pool_changed':
      return { what: `pool ${event.pool}`, href: '/workers', happened: event.to, why: event.reason ?? '' };
    case 'pilot_changed':
      return { what: `pilot ${event.pilot}, ${event.pool}`, href: '/workers', happened: event.to, why: event.reason ?? '' };
    case 'experiment_submitted':
      return {
        what: `experiment ${event.experiment}, ${event.name}`,
        href: `/experiments/${event.experiment}`,
        happened: `submitted with ${event.jobs} jobs`,
        why: '',
      };
    case 'experiment_finished':
      return {
        what: `experiment ${event.experiment}, ${event.name}`,
        href: `/experiments/${event.experiment}`,
        happened: `finished: ${event.done} of ${event.jobs} jobs have their result`,
        why: '',
      };
    case 'experiment_cancelled':
      return { what: `experiment ${event.experiment}`, href: `/experiments/${event.experiment}`, happened: 'cancelled', why: '' };
  }
}

/// What has no state isn't wanted when one is asked for.
export function isWanted(event: Event, kind: string | null, state: string | null): boolean {
  if (kind !== null && event.type !== kind) return false;
  return state === null || ('to' in event && event.to === state);
}
