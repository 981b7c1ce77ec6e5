import { expect, it } from 'vitest';

import type { ExperimentSummary } from '../api/questions';
import { due, longestAgo } from './due';
import { jobs } from '../tables/example';

const experiment = (counts: ExperimentSummary['counts']): ExperimentSummary => (
  { id: 1, name: 'x', protocol: 'few_shot', submitted_at: '2026-11-28T07:00:00Z', cancelled: false, counts }
);
const asked = (counts: ExperimentSummary['counts']) => ({ at: 0, counts: JSON.stringify(counts) });

it('is asked at once, and then as long as something can happen', () => {
  const running = jobs({ running: 1 });
  expect(due(experiment(running), undefined, 0)).toBe(true);
  expect([9_999, 10_000].map((now) => due(experiment(running), asked(running), now))).toEqual([false, true]);
  const over = jobs({ completed: 1 });
  expect(due(experiment(over), asked(over), 1_000_000)).toBe(false);
});
it('of many, the one that was asked about first comes first', () => {
  const running = jobs({ running: 1 });
  const three = [1, 2, 3].map((id) => ({ ...experiment(running), id }));
  const times = new Map([[1, 500], [2, 100], [3, 9_000]].map(([id, at]) => [id as number, { at: at as number, counts: JSON.stringify(running) }]));
  expect(longestAgo(three, times, 12_000)?.id).toBe(2);
  expect(longestAgo(three, times, 5_000)).toBeUndefined();
});
it('is asked sooner after a change, but not for each', () => {
  const [before, after] = [jobs({ running: 1 }), jobs({ completed: 1 })];
  expect([1_999, 2_000].map((now) => due(experiment(after), asked(before), now))).toEqual([false, true]);
});
