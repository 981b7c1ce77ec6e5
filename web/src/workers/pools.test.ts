import { describe, expect, it } from 'vitest';

import { type Pool, facts } from './pools';

const now = new Date('2026-11-28T12:00:00Z');
const none = { submitting: 0, waiting: 0, running: 0, working: 0, suspended: 0, stopping: 0 };

function pool(more: Partial<Pool> = {}): Pool {
  const settings: Pool['settings'] = { launcher: 'local', max: 4, min: 0, idle_s: 300 };
  return { name: 'home', settings, from_file: false, state: 'active', not_before: '2026-11-28T11:00:00Z', pilots: none, ...more };
}

const said = (more: Partial<Pool>) => Object.fromEntries(facts(pool(more), now));

describe('a pool', () => {
  it('says how many of its pilots there are', () => {
    expect(said({})).toMatchObject({ Pilots: '0 of at most 4', Waiting: '0', Running: '0, 0 with their workers', Each: 'a job at a time', 'Goes without a job': 'after 5 min' });
    const pilots = { submitting: 2, waiting: 1, running: 3, working: 1, suspended: 1, stopping: 1 };
    const settings: Pool['settings'] = { launcher: 'slurm', max: 1000, min: 2 };
    expect(said({ pilots, settings })).toMatchObject({
      Pilots: '8 of at most 1\u202f000, at least 2', Waiting: '3, 2 being asked for', Running: '3, 1 with its worker', Suspended: '1', Stopping: '1',
    });
  });

  it('says when it may have the next', () => {
    const not_before = '2026-11-28T12:00:08Z';
    expect(said({})['Next pilot']).toBe('as jobs need it');
    expect(said({ not_before })['Next pilot']).toBe('in 8 s at the earliest');
    expect((['paused', 'ending', 'off'] as const).map((state) => said({ state, not_before })['Next pilot'])).toEqual(['none', 'none', 'none']);
  });

  it('says what its pilots are like', () => {
    const settings: Pool['settings'] = {
      launcher: 'slurm', max: 4, partition: 'vision', gres: 'gpu:1', time_s: 4 * 3600, slots_per_gpu: 2, memory_mib: 40_000, labels: ['a100', 'north'],
    };
    expect(said({ settings })['Each']).toBe('vision, gpu:1, 4 h, 2 jobs a GPU, 40\u202f000 MiB, a100, north');
  });

  it('has as many lines whatever it is at', () => {
    const names = (more: Partial<Pool>) => facts(pool(more), now).map(([name]) => name);
    expect(names({ state: 'paused', pilots: { ...none, submitting: 1 }, settings: { launcher: 'local', max: 1 } })).toEqual(names({}));
  });
});
