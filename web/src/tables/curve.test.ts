import { describe, expect, it } from 'vitest';

import type { Schemas } from '../api/client';
import { charts, describe as describeChart, place, strokes, ticks } from './curve';
import { answered } from './example';

const none = answered(null, {});
const table: Schemas['FewShot'] = {
  shots: [0, 1, 4],
  rows: [
    { dataset: 'dtd', method: 'mmrlpp', variant: '', cells: [none, answered(41), answered(44)] },
    { dataset: 'dtd', method: 'zero_shot', variant: '', cells: [answered(40, { completed: 1 }), none, none] },
    { dataset: 'eurosat', method: 'zero_shot', variant: '', cells: [none, none, none] },
  ],
  average: [
    { dataset: null, method: 'mmrlpp', variant: '', cells: [none, answered(41), none] },
    { dataset: null, method: 'zero_shot', variant: '', cells: [answered(40), none, none] },
  ],
};

describe('charts', () => {
  it('are of the average and of each data set, with the same mark for a line everywhere', () => {
    const all = charts(table, (method) => method, []);
    expect(all.map((chart) => chart.title)).toEqual(['average over 2 data sets', 'dtd', 'eurosat']);
    expect(all.map((chart) => chart.lines.map((line) => line.mark))).toEqual([[0, 1], [0, 1], [1]]);
  });
  it('have a point where there is a number, and no deviation over one seed', () => {
    const dtd = charts(table, (method) => method, ['mmrlpp'])[1];
    expect(dtd?.lines.map((line) => line.points)).toEqual([[{ shots: 0, mean: 40, std: 0, lacks: null }]]);
  });
  it('are described', () => {
    const all = charts(table, (method) => method.toUpperCase(), []);
    expect(all.slice(1).map(describeChart)).toEqual([
      'Accuracy in per cent over shots. MMRLPP: 41.0 at 1, 44.0 at 4; ZERO_SHOT: 40.0 at 0.',
      'No results yet.',
    ]);
  });
});

describe('what is provisional', () => {
  const open: Schemas['FewShot'] = {
    shots: [1, 4],
    rows: [
      { dataset: 'dtd', method: 'coop', variant: '', cells: [answered(40), answered(44)] },
      { dataset: 'eurosat', method: 'coop', variant: '', cells: [answered(60), answered(70, { completed: 1, running: 2 })] },
      { dataset: 'food101', method: 'coop', variant: '', cells: [answered(80), answered(null, { queued: 3 })] },
    ],
    average: [{ dataset: null, method: 'coop', variant: '', cells: [answered(60, { completed: 9 }), answered(57, { completed: 4, running: 2, queued: 3 })] }],
  };
  const [average, dtd, eurosat] = charts(open, (method) => method, []);

  it('is known of each point, and said of the chart', () => {
    expect(average?.lines[0]?.points.map((point) => point.lacks)).toEqual([null, 'provisional: 4 of 9 jobs, 2 running']);
    expect(average?.lacks).toBe('provisional: 2 of 3 data sets are in');
    expect([dtd?.lacks, eurosat?.lacks]).toEqual([null, 'provisional']);
  });
  it('is drawn in strokes of its own, and described', () => {
    const points = average?.lines[0]?.points ?? [];
    expect(strokes(points)).toEqual({ final: [], provisional: [[points[0], points[1]]] });
    expect(strokes(dtd?.lines[0]?.points ?? []).final).toHaveLength(1);
    expect(average && describeChart(average)).toBe('Accuracy in per cent over shots. coop: 60.0 at 1, 57.0 at 4 (provisional).');
  });
});

it('shots lie as far from each other as they double', () => {
  expect([0, 1, 2, 4, 16].map(place)).toEqual([-1, 0, 1, 2, 4]);
});

it('ticks are round and hold everything', () => {
  expect(ticks(61.2, 78.9, 5)).toEqual([60, 65, 70, 75, 80]);
  expect(ticks(50, 50, 5)).toEqual([50, 51]);
  expect(ticks(0, 100, 5)).toEqual([0, 20, 40, 60, 80, 100]);
});
