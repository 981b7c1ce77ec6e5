// Where each job of an experiment stands in its matrix: rows are what is measured, columns are seeds and stages.

import type { Matrix, MatrixJob } from '../api/matrix';
import { methodName } from '../names.svelte';

export type Row = {
  method: string;
  dataset: string;
  /// What tells it apart from the method's other rows.
  name: string;
};
export type Column = { seed: number; stage: Matrix['stages'][number] };

export type Layout = {
  rows: Row[];
  columns: Column[];
  /// The place of each cell's job in the list, row by row; −1 where there is none.
  cells: Int32Array;
  /// The cell of each job.
  cellOf: Int32Array;
  /// The place in the list of a job, by its identifier.
  placeOf: Map<number, number>;
};

export function layOut(matrix: Matrix): Layout {
  const { jobs } = matrix;
  const rowKeys = sorted(jobs, ([, method, dataset, variant, shots]) => [method, dataset, variant, shots]);
  // None is hidden behind another: jobs that nothing tells apart get columns of their own.
  const met = new Map<string, number>();
  const columnKeys = sorted(jobs, ([, ...place]) => {
    const same = place.slice(0, -1).join();
    const before = met.get(same) ?? 0;
    met.set(same, before + 1);
    return [place[4], place[5], before];
  });
  // Where all that learn do so from as many images, that isn't said again and again.
  const hasShots = new Set(rowKeys.keys.map(([, , , shots = 0]) => shots).filter((shots) => shots > 0)).size > 1;
  const rows = rowKeys.keys.map(([method = 0, data = 0, place = 0, shots = 0]): Row => {
    const [dataset, variant] = [matrix.datasets[data] ?? '', matrix.variants[place] ?? ''];
    const name = [dataset, ...(variant === '' ? [] : [variant]), ...(hasShots && shots > 0 ? [`${shots} shots`] : [])].join(', ');
    return { method: matrix.methods[method] ?? '', dataset, name };
  });
  const columns = columnKeys.keys.map(([seed = 0, stage = 0]): Column => ({ seed, stage: matrix.stages[stage] ?? 'test' }));
  const cells = new Int32Array(rows.length * columns.length).fill(-1);
  const cellOf = new Int32Array(jobs.length);
  const placeOf = new Map<number, number>();
  jobs.forEach((job, place) => {
    const cell = (rowKeys.of[place] ?? 0) * columns.length + (columnKeys.of[place] ?? 0);
    cells[cell] = place;
    cellOf[place] = cell;
    placeOf.set(job[0], place);
  });
  return { rows, columns, cells, cellOf, placeOf };
}

/// The different keys in order, and which of them each job has.
function sorted(jobs: readonly MatrixJob[], key: (job: MatrixJob) => number[]) {
  const places = new Map<string, number>();
  const keys: number[][] = [];
  const of = jobs.map((job) => {
    const own = key(job);
    const name = own.join();
    const found = places.get(name) ?? keys.push(own) - 1;
    places.set(name, found);
    return found;
  });
  const order = keys.map((_, i) => i).sort((a, b) => compare(keys[a] ?? [], keys[b] ?? []));
  const rank = new Map(order.map((was, is) => [was, is]));
  return { keys: order.map((i) => keys[i] ?? []), of: of.map((was) => rank.get(was) ?? 0) };
}

function compare(a: readonly number[], b: readonly number[]): number {
  for (let i = 0; i < a.length; i++) {
    const difference = (a[i] ?? 0) - (b[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/// `AlignedNorm, eurosat, seed 2, train`.
export function cellName(row: Row, column: Column): string {
  return [methodName(row.method), row.name, `seed ${column.seed}`, column.stage].join(', ');
}

/// All cells with a job in the rectangle between two cells.
export function rectangle(layout: Layout, from: number, to: number): number[] {
  const width = layout.columns.length;
  const [top, bottom] = [Math.floor(from / width), Math.floor(to / width)].sort((a, b) => a - b) as [number, number];
  const [left, right] = [from % width, to % width].sort((a, b) => a - b) as [number, number];
  const places: number[] = [];
  for (let row = top; row <= bottom; row++) {
    for (let column = left; column <= right; column++) {
      const place = layout.cells[row * width + column] ?? -1;
      if (place >= 0) places.push(place);
    }
  }
  return places;
}

export type Move = 'up' | 'down' | 'left' | 'right' | 'home' | 'end' | 'top' | 'bottom' | 'pageUp' | 'pageDown';

/// The cell that a key leads to. Cells without a job are passed over where one comes after them.
export function move(layout: Layout, from: number, how: Move, page: number): number {
  const width = layout.columns.length;
  const height = layout.rows.length;
  const [row, column] = [Math.floor(from / width), from % width];
  const walk = (rows: number, columns: number) => {
    let [r, c] = [row + rows, column + columns];
    while (r >= 0 && r < height && c >= 0 && c < width) {
      if ((layout.cells[r * width + c] ?? -1) >= 0) return r * width + c;
      [r, c] = [r + rows, c + columns];
    }
    return from;
  };
  const jump = (to: number) => Math.min(height - 1, Math.max(0, to)) * width + column;
  switch (how) {
    case 'up': return walk(-1, 0);
    case 'down': return walk(1, 0);
    case 'left': return walk(0, -1);
    case 'right': return walk(0, 1);
    case 'home': return row * width;
    case 'end': return row * width + width - 1;
    case 'top': return column;
    case 'bottom': return jump(height - 1);
    case 'pageUp': return jump(row - page);
    case 'pageDown': return jump(row + page);
  }
}
