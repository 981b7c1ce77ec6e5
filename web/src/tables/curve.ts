// Accuracy over shots as papers draw it: one chart for each data set, one line for each method.

import type { Schemas } from '../api/client';
import { type Label, averageTitle, byDataset, lineKey, lineName } from './sheet';

export type Point = { shots: number; mean: number; std: number };
/// `mark` tells the lines apart, the same one on every chart; it's a number below [`MARKS`].
export type Line = { key: string; label: string; mark: number; points: Point[] };
export type Chart = { title: string; dataset: string | null; lines: Line[] };

export const MARKS = 8;

/// A chart for each data set, the average first. Lines without a number yet have no points.
export function charts(table: Schemas['FewShot'], label: Label, hidden: string[]): Chart[] {
  const groups = byDataset(table.rows);
  const places = table.average.map(lineKey);
  const chart = (title: string, dataset: string | null, rows: Schemas['FewShotRow'][]): Chart => ({
    title,
    dataset,
    lines: rows.filter((row) => !hidden.includes(row.method)).map((row) => ({
      key: lineKey(row),
      label: lineName(row, label, false),
      mark: Math.max(0, places.indexOf(lineKey(row))) % MARKS,
      points: row.cells.flatMap(({ summary }, i) => {
        const shots = table.shots[i];
        return summary == null || shots === undefined ? [] : [{ shots, mean: summary.mean, std: summary.n > 1 ? summary.std : 0 }];
      }),
    })),
  });
  const all = groups.map(([dataset, rows]) => chart(dataset, dataset, rows));
  return groups.length > 1 ? [chart(averageTitle(groups.length), null, table.average), ...all] : all;
}

/// Where a number of shots lies: 1, 2, 4, 8 are as far from each other, and none is one step before 1.
export function place(shots: number): number {
  return shots <= 0 ? -1 : Math.log2(shots);
}

/// Round numbers from below `low` to above `high`, about `count` of them.
export function ticks(low: number, high: number, count: number): number[] {
  const span = Math.max(high - low, 1);
  const step = [1, 2, 5, 10, 20, 50].find((step) => span / step <= count) ?? 100;
  const first = Math.floor(low / step);
  const last = Math.max(Math.ceil(high / step), first + 1);
  return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
}

/// What a chart shows, in a sentence for who doesn't see it.
export function describe({ lines }: Chart): string {
  const parts = lines.filter((line) => line.points.length > 0).map(({ label, points }) => {
    const [first, last] = [points[0], points.at(-1)];
    if (first === undefined || last === undefined) return '';
    const end = `${last.mean.toFixed(1)} at ${last.shots}`;
    return first === last ? `${label}: ${end}` : `${label}: ${first.mean.toFixed(1)} at ${first.shots}, ${end}`;
  });
  return parts.length > 0 ? `Accuracy in per cent over shots. ${parts.join('; ')}.` : 'No results yet.';
}
