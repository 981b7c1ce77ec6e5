import { describe, expect, it } from 'vitest';

import type { Schemas } from '../api/client';
import { STATES_BY_OWNER, isWanted, said } from './words';

type Event = Schemas['Event'];

const at = '2026-11-28T12:00:00Z';
const job: Event = { sequence: 1, at, type: 'job_changed', job: 7, from: 'running', to: 'failed', worker: 2, reason: 'no weights' };
const worker: Event = { sequence: 2, at, type: 'worker_changed', worker: 2, name: 'gpu-1', to: 'lost' };
const pool: Event = { sequence: 4, at, type: 'pool_changed', pool: 'home', to: 'paused', reason: 'no weights' };
const pilot: Event = { sequence: 5, at, type: 'pilot_changed', pilot: 9, pool: 'home', to: 'waiting', reason: 'PENDING (Resources)' };
const submitted: Event = { sequence: 3, at, type: 'experiment_submitted', experiment: 4, name: 'wide', jobs: 52 };

describe('events', () => {
  it('say what happened to what', () => {
    expect(said(job)).toEqual({ what: 'job 7', href: '/jobs/7', happened: 'running → failed by worker 2', why: 'no weights' });
    expect(said({ ...job, from: null, worker: null, reason: null }).happened).toBe('failed');
    expect(said(worker)).toMatchObject({ what: 'worker 2, gpu-1', happened: 'lost' });
    expect(said(pool)).toEqual({ what: 'pool home', href: '/workers', happened: 'paused', why: 'no weights' });
    expect(said({ ...pool, to: 'active', reason: null })).toMatchObject({ happened: 'active', why: '' });
    expect(said(pilot)).toEqual({ what: 'pilot 9, home', href: '/workers', happened: 'waiting', why: 'PENDING (Resources)' });
    expect(said(submitted)).toMatchObject({ href: '/experiments/4', happened: 'submitted with 52 jobs' });
  });

  it('are wanted by kind and state', () => {
    expect([job, worker, submitted].map((event) => isWanted(event, null, null))).toEqual([true, true, true]);
    expect([job, worker, submitted].map((event) => isWanted(event, null, 'failed'))).toEqual([true, false, false]);
    expect([job, worker, submitted].map((event) => isWanted(event, 'worker_changed', null))).toEqual([false, true, false]);
    expect([job, pool, pilot].map((event) => isWanted(event, 'pool_changed', null))).toEqual([false, true, false]);
    expect([job, pool, pilot].map((event) => isWanted(event, null, 'waiting'))).toEqual([false, false, true]);
  });

  it('offer each state once', () => {
    const offered = STATES_BY_OWNER.flatMap(([, states]) => states);
    expect(new Set(offered).size).toBe(offered.length);
    for (const { to } of [job, worker, pool, pilot] as { to: string }[]) expect(offered).toContain(to);
  });
});
