// Accuracy over shots as papers draw it: one chart for each data set, one line for each method.

import type { Schemas } from '../api/client';
import { type Label, averageTitle, byDataset, cell, lineKey, lineName } from './sheet';
import { lacks, standing } from './words';

export type Point = {
  shots: number;
  mean: number;
  std: number;
  /// What it lacks, in words; `null` if all of its jobs have their result.
  lacks: string | null;
};
/// `mark` tells the lines apart, the same one on every chart; it's a number below [`MARKS`].
export type Line = { key: string; label: string; mark: number; points: Point[] };
export type Chart = {
  title: string;
  dataset: string | null;
  lines: Line[];
  /// What its numbers lack, in words; `null` if they lack nothing.
  lacks: string | null;
};

export const MARKS = 8;

/// A chart for each data set, the average first. Lines without a number yet have no points.
export function charts(table: Schemas['FewShot'], label: Label, hidden: string[]): Chart[] {
  const groups = byDataset(table.rows);
  const places = table.average.map(lineKey);
  const chart = (title: string, dataset: string | null, rows: Schemas['FewShotRow'][]): Chart => {
    const shown = rows.filter((row) => !hidden.includes(row.method));
    const lines = shown.map((row) => ({
      key: lineKey(row),
      label: lineName(row, label, false),
      mark: Math.max(0, places.indexOf(lineKey(row))) % MARKS,
      points: row.cells.flatMap((from, i): Point[] => {
        const shots = table.shots[i];
        if (from.summary == null || shots === undefined) return [];
        const { mean, std, n } = from.summary;
        return [{ shots, mean, std: n > 1 ? std : 0, lacks: lacks(cell(from, dataset, dataset === null)) }];
      }),
    }));
    const isProvisional = lines.some((line) => line.points.some((point) => point.lacks !== null));
    return { title, dataset, lines, lacks: isProvisional ? (dataset === null ? fewest(shown) : 'provisional') : null };
  };
  /// How many data sets the averages that lack some are over, of the one that is over the fewest.
  const fewest = (averages: Schemas['FewShotRow'][]): string => {
    const counts = averages.flatMap((average) => average.cells.flatMap((from, i) => {
      if (from.summary == null || standing(cell(from, null, true)) === 'final') return [];
      const own = table.rows.filter((row) => lineKey(row) === lineKey(average)).map((row) => row.cells[i]);
      return [own.filter((one) => one?.summary != null).length];
    }));
    const least = Math.min(...counts);
    return least < groups.length ? `provisional: ${least} of ${groups.length} data sets are in` : 'provisional';
  };
  const all = groups.map(([dataset, rows]) => chart(dataset, dataset, rows));
  return groups.length > 1 ? [chart(averageTitle(groups.length), null, table.average), ...all] : all;
}

/// The points of a line in two kinds of strokes: between final ones, and to or from one that is provisional.
export function strokes(points: readonly Point[]): { final: [Point, Point][]; provisional: [Point, Point][] } {
  const found: ReturnType<typeof strokes> = { final: [], provisional: [] };
  for (const [i, to] of points.entries()) {
    const from = points[i - 1];
    if (from !== undefined) found[from.lacks === null && to.lacks === null ? 'final' : 'provisional'].push([from, to]);
  }
  return found;
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
    const words = ({ mean, shots, lacks }: Point) => `${mean.toFixed(1)} at ${shots}${lacks === null ? '' : ' (provisional)'}`;
    return first === last ? `${label}: ${words(last)}` : `${label}: ${words(first)}, ${words(last)}`;
  });
  return parts.length > 0 ? `Accuracy in per cent over shots. ${parts.join('; ')}.` : 'No results yet.';
}
