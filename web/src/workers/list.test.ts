import { describe, expect, it } from 'vitest';

import { type Worker, isStale, otherBackbones, parted, timeLeft } from './list';

function worker(id: number, name: string, state: Worker['state'], last_seen = '2026-11-28T12:00:00Z'): Worker {
  return { id, name, state, last_seen, registered_at: last_seen, host: 'h', slots: 1, devices: ['cpu'], backbones: ['b'], version: '0.1.0', jobs: [] };
}

describe('workers', () => {
  it('are here by name, and away by when they left', () => {
    const { here, away } = parted([
      worker(1, 'gpu-10', 'active'),
      worker(2, 'gpu-2', 'gone', '2026-11-28T09:00:00Z'),
      worker(3, 'gpu-2', 'draining'),
      worker(4, 'gpu-7', 'lost', '2026-11-28T11:00:00Z'),
    ]);
    expect(here.map((one) => one.id)).toEqual([3, 1]);
    expect(away.map((one) => one.id)).toEqual([4, 2]);
  });

  it('say how long they have left, if they are here and it is limited', () => {
    const now = new Date('2026-11-28T12:30:00Z');
    const said = (more: Partial<Worker>) => timeLeft({ ...worker(1, 'a', 'draining'), ...more }, now);
    expect([said({}), said({ time_left_ms: null })]).toEqual([null, null]);
    expect(said({ time_left_ms: 3_600_000 })).toBe('30 min left');
    expect(said({ time_left_ms: 60_000 })).toBe('its time is up');
    expect(said({ time_left_ms: 3_600_000, state: 'gone' })).toBeNull();
  });

  it('say which of their backbones are others than the pinned ones', () => {
    const [one, two] = ['1'.repeat(64), '2'.repeat(64)];
    const pins = [{ backbone: 'a', sha256: one }, { backbone: 'b', sha256: one }, { backbone: 'c', sha256: one }];
    const known = { ...worker(1, 'w', 'active'), backbone_sha256: { a: one, b: two, d: two } };
    expect(otherBackbones(known, pins)).toEqual(['no jobs with b: its weights are 222222222222, and the name is pinned to 111111111111']);
    expect(otherBackbones({ ...known, state: 'gone' }, pins)).toEqual([]);
    expect(otherBackbones(worker(1, 'w', 'active'), pins)).toEqual([]);
  });

  it('are stale when they have been silent, unless they left', () => {
    const now = new Date('2026-11-28T12:02:00Z');
    expect([isStale(worker(1, 'a', 'active'), now), isStale(worker(1, 'a', 'gone'), now)]).toEqual([true, false]);
    expect(isStale(worker(1, 'a', 'active', '2026-11-28T12:01:30Z'), now)).toBe(false);
  });
});
