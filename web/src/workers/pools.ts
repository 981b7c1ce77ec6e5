// Pools and their pilots in words.

import type { Schemas } from '../api/client';
import { count, duration, relative } from '../format';
import type { State } from '../states';

export type Pool = Schemas['PoolSummary'];
export type Pilot = Schemas['PilotRecord'];

/// What a state is shown with: the mark of a job's state that is like it, and what it means.
type Sign = { mark: State; meaning: string };

export const POOL_STATES: Record<Pool['state'], Sign> = {
  active: { mark: 'running', meaning: 'gets pilots as jobs need them' },
  paused: { mark: 'failed', meaning: 'gets no pilots until someone has looked at why' },
  ending: { mark: 'leased', meaning: 'its pilots are being ended' },
  off: { mark: 'blocked', meaning: 'has no pilots and gets none' },
};

export const PILOT_STATES: Record<Pilot['state'], Sign> = {
  submitting: { mark: 'blocked', meaning: 'the launcher is being asked for it' },
  waiting: { mark: 'queued', meaning: 'the launcher has it, and it does not run yet' },
  running: { mark: 'running', meaning: 'it runs' },
  suspended: { mark: 'cancelled', meaning: 'the launcher has halted it' },
  stopping: { mark: 'leased', meaning: 'it was told to end' },
  ended: { mark: 'skipped', meaning: 'it is over' },
  failed: { mark: 'failed', meaning: 'it was over before its worker was of use' },
};

export const LAUNCHERS: Record<Schemas['LauncherKind'], string> = {
  local: 'processes on the coordinator’s host',
  slurm: 'Slurm jobs',
};

/// What is there and what it is like. Always as many lines, so that nothing moves when something changes.
export function facts({ state, settings, pilots, not_before }: Pool, now: Date): [string, string][] {
  const { submitting, waiting, running, working, suspended, stopping } = pilots;
  const all = submitting + waiting + running + suspended + stopping;
  const least = settings.min ? `, at least ${count(settings.min)}` : '';
  const soonest = new Date(not_before) > now ? `${relative(not_before, now)} at the earliest` : 'as jobs need it';
  return [
    ['Pilots', `${count(all)} of at most ${count(settings.max)}${least}`],
    ['Waiting', `${count(submitting + waiting)}${submitting > 0 ? `, ${count(submitting)} being asked for` : ''}`],
    ['Running', `${count(running)}, ${count(working)} with ${working === 1 ? 'its worker' : 'their workers'}`],
    ['Suspended', count(suspended)],
    ['Stopping', count(stopping)],
    ['Next pilot', state === 'active' ? soonest : 'none'],
    ['Each', each(settings)],
    ['Goes without a job', settings.idle_s === undefined ? '–' : `after ${duration(settings.idle_s * 1000)}`],
  ];
}

/// What a pilot is like, in short.
function each({ partition, gres, time_s, slots_per_gpu = 1, memory_mib, labels = [] }: Pool['settings']): string {
  const parts = [
    partition ?? '',
    gres ?? '',
    time_s == null ? '' : duration(time_s * 1000),
    slots_per_gpu === 1 ? '' : `${count(slots_per_gpu)} jobs a GPU`,
    memory_mib == null ? '' : `${count(memory_mib)} MiB`,
    ...labels,
  ];
  return parts.filter((part) => part !== '').join(', ') || 'a job at a time';
}
