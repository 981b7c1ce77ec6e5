import { describe, expect, it } from 'vitest';

import type { Matrix, MatrixJob } from '../api/matrix';
import { learn } from '../names.svelte';
import { cellName, layOut, move, rectangle } from './layout';

function matrix(methods: number, datasets: number, seeds: number): Matrix {
  const jobs: MatrixJob[] = [];
  for (let method = 0; method < methods; method++) {
    for (let dataset = 0; dataset < datasets; dataset++) {
      for (let seed = 1; seed <= seeds; seed++) {
        for (const stage of [0, 1]) jobs.push([jobs.length + 1, method, dataset, 0, 16, seed, stage, 0]);
      }
    }
  }
  return {
    methods: (['alignednorm', 'mmrl', 'coop', 'mmrlpp', 'zero_shot'] as const).slice(0, methods),
    datasets: Array.from({ length: datasets }, (_, i) => `d${i}`),
    variants: [''],
    stages: ['train', 'test'],
    states: ['queued', 'completed'],
    jobs,
  };
}

describe('layout', () => {
  it('has a row for each measurement and a column for each seed and stage', () => {
    const layout = layOut(matrix(2, 3, 2));
    expect(layout.rows.map((row) => `${row.method} ${row.dataset}`)).toEqual([
      'alignednorm d0', 'alignednorm d1', 'alignednorm d2', 'mmrl d0', 'mmrl d1', 'mmrl d2',
    ]);
    expect(layout.columns).toEqual([
      { seed: 1, stage: 'train' }, { seed: 1, stage: 'test' }, { seed: 2, stage: 'train' }, { seed: 2, stage: 'test' },
    ]);
    expect([...layout.cells]).toEqual(Array.from({ length: 24 }, (_, i) => i));
  });

  it('leaves cells empty that have no job', () => {
    const layout = layOut({ ...matrix(1, 1, 1), methods: ['coop', 'zero_shot'], jobs: [[7, 0, 0, 0, 16, 3, 0, 0], [9, 1, 0, 0, 0, 0, 1, 0]] });
    expect([...layout.cells]).toEqual([-1, 0, 1, -1]);
    expect(layout.placeOf.get(9)).toBe(1);
    expect(layout.cellOf[0]).toBe(1);
  });

  it('hides no job behind another', () => {
    const layout = layOut({ ...matrix(1, 1, 1), jobs: [[1, 0, 0, 0, 16, 3, 1, 0], [2, 0, 0, 0, 16, 3, 1, 0]] });
    expect([...layout.cells]).toEqual([0, 1]);
  });

  it('is quick with a hundred thousand jobs', () => {
    const large = matrix(10, 50, 100);
    expect(large.jobs).toHaveLength(100_000);
    const began = performance.now();
    const layout = layOut(large);
    expect(performance.now() - began).toBeLessThan(2000);
    expect(layout.rows).toHaveLength(500);
    expect(layout.cells.every((place) => place >= 0)).toBe(true);
  });

  it('names its cells', () => {
    learn([{ key: 'alignednorm', label: 'AlignedNorm' }]);
    const { rows, columns } = layOut({ ...matrix(1, 1, 1), variants: ['', 'lr=0.1'], jobs: [[1, 0, 0, 1, 16, 2, 0, 0], [2, 0, 0, 0, 16, 2, 1, 0]] });
    expect(rows.map((row) => cellName(row, columns[0] ?? { seed: 0, stage: 'test' }))).toEqual([
      'AlignedNorm, d0, seed 2, train',
      'AlignedNorm, d0, lr=0.1, seed 2, train',
    ]);
  });

  it('says how many shots there are where that differs', () => {
    const { rows } = layOut({ ...matrix(1, 1, 1), jobs: [[1, 0, 0, 0, 16, 2, 0, 0], [2, 0, 0, 0, 4, 2, 0, 0], [3, 0, 0, 0, 0, 0, 1, 0]] });
    expect(rows.map((row) => row.name)).toEqual(['d0', 'd0, 4 shots', 'd0, 16 shots']);
  });
});

describe('keys', () => {
  const layout = layOut(matrix(2, 3, 2));
  it('lead to the neighbours, and stop at the edges', () => {
    expect([move(layout, 5, 'up', 2), move(layout, 5, 'down', 2), move(layout, 5, 'left', 2), move(layout, 5, 'right', 2)]).toEqual([1, 9, 4, 6]);
    expect([move(layout, 1, 'up', 2), move(layout, 4, 'left', 2), move(layout, 23, 'down', 2)]).toEqual([1, 4, 23]);
  });
  it('lead afar', () => {
    expect([move(layout, 5, 'home', 2), move(layout, 5, 'end', 2), move(layout, 5, 'top', 2), move(layout, 5, 'bottom', 2)]).toEqual([4, 7, 1, 21]);
    expect([move(layout, 5, 'pageDown', 2), move(layout, 5, 'pageUp', 2)]).toEqual([13, 1]);
  });
  it('pass over gaps', () => {
    const gaps = layOut({ ...matrix(1, 1, 1), jobs: [[1, 0, 0, 0, 16, 1, 0, 0], [2, 0, 0, 0, 16, 3, 0, 0], [3, 0, 0, 0, 8, 2, 0, 0]] });
    expect([...gaps.cells]).toEqual([-1, 2, -1, 0, -1, 1]);
    expect(move(gaps, 3, 'right', 2)).toBe(5);
  });
});

describe('a rectangle', () => {
  it('has the jobs between two corners, whichever come first', () => {
    const layout = layOut(matrix(2, 3, 2));
    expect(rectangle(layout, 5, 10)).toEqual([5, 6, 9, 10]);
    expect(rectangle(layout, 10, 5)).toEqual([5, 6, 9, 10]);
    expect(rectangle(layout, 9, 6)).toEqual([5, 6, 9, 10]);
  });
});
