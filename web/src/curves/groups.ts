// Which of a training's numbers belong in one chart.

import type { Schemas } from '../api/client';

export type Point = Schemas['MetricPoint'];

export type Group = { key: string; title: string; names: string[] };

const KINDS: readonly { key: string; title: string; has: (name: string) => boolean }[] = [
  { key: 'norms', title: 'Norm terms', has: (name) => /norm/.test(name) },
  { key: 'loss', title: 'Loss and its terms', has: (name) => /^loss(\/|$)/.test(name) },
  { key: 'accuracy', title: 'Accuracy on the training batch, %', has: (name) => /^acc/.test(name) },
  { key: 'rate', title: 'Learning rate', has: (name) => /^lr(\/|$)/.test(name) },
  { key: 'other', title: 'Other numbers', has: () => true },
];
const ORDER = ['loss', 'accuracy', 'norms', 'rate', 'other'];

/// The charts that a job's numbers make, each with its names in order.
export function groups(points: readonly Point[]): Group[] {
  const names = new Set(points.flatMap((point) => Object.keys(point.values)));
  const found = new Map<string, Group>();
  for (const name of [...names].sort()) {
    const kind = KINDS.find((one) => one.has(name));
    if (kind === undefined) continue;
    const group = found.get(kind.key) ?? { key: kind.key, title: kind.title, names: [] };
    group.names.push(name);
    found.set(kind.key, group);
  }
  return ORDER.flatMap((key) => found.get(key) ?? []);
}

/// `ce_rep` of `loss/ce_rep`, where everything beside it is part of the loss too.
export function short(name: string): string {
  return name.startsWith('loss/') ? name.slice(5) : name;
}

const LONGEST = 24;

/// What stands at the end of a line: a long name must leave room for the line.
export function brief(name: string): string {
  const words = short(name);
  return words.length > LONGEST ? `${words.slice(0, LONGEST - 1)}…` : words;
}

/// Columns by step: the steps first, then for each name its values, `null` where a step has none.
export function columns(points: readonly Point[], names: readonly string[], beside: readonly Point[] = []): (number | null)[][] {
  const steps = [...new Set([...points, ...beside].map((point) => point.step))].sort((a, b) => a - b);
  const rows = new Map(steps.map((step, row) => [step, row]));
  const column = (of: readonly Point[], name: string) => {
    const values: (number | null)[] = new Array<number | null>(steps.length).fill(null);
    for (const point of of) {
      const value = point.values[name];
      const row = rows.get(point.step);
      if (value !== undefined && row !== undefined) values[row] = value;
    }
    return values;
  };
  const own = names.map((name) => column(points, name));
  return [steps, ...own, ...(beside.length > 0 ? names.map((name) => column(beside, name)) : [])];
}

/// Four significant digits, and no more noughts than needed.
export function figure(value: number | null | undefined): string {
  if (value === null || value === undefined) return '–';
  if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e6)) return value.toExponential(2);
  return String(Number(value.toPrecision(4)));
}

/// Moves labels apart so that none covers another: heights from the top, with at least `gap` between them, down to `end`.
export function spread(wanted: readonly number[], gap: number, end: number): number[] {
  const order = wanted.map((_, i) => i).sort((a, b) => (wanted[a] ?? 0) - (wanted[b] ?? 0));
  const placed = [...wanted];
  let least = -Infinity;
  for (const i of order) {
    placed[i] = Math.max(placed[i] ?? 0, least);
    least = (placed[i] ?? 0) + gap;
  }
  let most = end;
  for (const i of order.toReversed()) {
    placed[i] = Math.min(placed[i] ?? 0, most);
    most = (placed[i] ?? 0) - gap;
  }
  return placed;
}
