// Events in words, and which of them are wanted.

import type { Schemas } from '../api/client';

type Event = Schemas['Event'];

export const KINDS: Record<Event['type'], string> = {
  job_changed: 'jobs',
  worker_changed: 'workers',
  experiment_submitted: 'experiments submitted',
  experiment_cancelled: 'experiments cancelled',
  experiment_finished: 'experiments finished',
};

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

/// `state` is of a job or a worker: what has none isn't wanted then.
export function isWanted(event: Event, kind: string | null, state: string | null): boolean {
  if (kind !== null && event.type !== kind) return false;
  return state === null || ('to' in event && event.to === state);
}
