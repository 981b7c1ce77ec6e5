// A table of results, whatever its protocol: columns, groups of rows, and cells that know what they rest on.

import type { Schemas } from '../api/client';
import { type Counts, STATES } from '../states';

export type Table = Schemas['ResultTable'];
export type Summary = Schemas['Summary'];

export type Cell = {
  summary: Summary | null;
  jobs: Counts;
  /// Made of several cells (an average, a harmonic mean): its jobs are not its seeds.
  aggregate: boolean;
  beside: Schemas['Beside'] | null;
  /// The data set whose jobs these are; `null` for several.
  dataset: string | null;
  /// What else its jobs have in common that not all of the row's have.
  stage?: Schemas['Stage'];
  shots?: number;
};

export type Column = {
  key: string;
  label: string;
  /// What stands above several columns.
  over: string | null;
  dataset: string | null;
};

export type Row = {
  key: string;
  label: string;
  method: string;
  /// The sweep's values; empty without a sweep.
  variant: string;
  /// Training images per class, where the row has one number of them.
  shots?: number;
  cells: Cell[];
};

export type Group = {
  key: string;
  title: string;
  dataset: string | null;
  rows: Row[];
};

export type Sheet = {
  columns: Column[];
  groups: Group[];
  /// Whether its groups have titles; otherwise there is but one.
  grouped: boolean;
  /// Whether published numbers stand in it.
  compared: boolean;
};

export type Label = (method: string) => string;
type Line = { method: string; shots?: number; variant: string };

export const EMPTY: Counts = { blocked: 0, queued: 0, leased: 0, running: 0, completed: 0, skipped: 0, failed: 0, cancelled: 0 };

export function sum(counts: Counts[]): Counts {
  const all = { ...EMPTY };
  for (const state of STATES) all[state] = counts.reduce((sum, count) => sum + count[state], 0);
  return all;
}

export function cell(from: Schemas['Cell'], dataset: string | null, aggregate = false, beside: Cell['beside'] = null): Cell {
  return { summary: from.summary ?? null, jobs: from.jobs, aggregate, beside, dataset };
}

/// The query by which an experiment's list of jobs has those of a cell.
export function jobsOf({ method, variant, shots: ofRow }: Row, { dataset, stage, shots = ofRow }: Cell): URLSearchParams {
  return new URLSearchParams({
    tab: 'jobs',
    ...(dataset === null ? {} : { dataset }),
    method,
    ...(variant === '' ? {} : { variant }),
    ...(shots === undefined ? {} : { shots: String(shots) }),
    ...(stage === undefined ? {} : { stage }),
  });
}

/// What tells a line from the others of its table.
export function lineKey({ method, shots, variant }: Line): string {
  return `${method} ${shots ?? ''} ${variant}`;
}

/// A line's name: the method, and what else tells it from the others.
export function lineName(line: Line, label: Label, severalShots: boolean): string {
  const shots = severalShots && (line.shots ?? 0) > 0 ? `, ${line.shots} shots` : '';
  return label(line.method) + shots + (line.variant === '' ? '' : ` (${line.variant})`);
}

/// Whether lines have different numbers of shots, those of methods that learn nothing aside.
export function severalShots(lines: Line[]): boolean {
  return new Set(lines.map((line) => line.shots ?? 0).filter((shots) => shots > 0)).size > 1;
}

/// Rows in the groups of their data sets, in the order in which they come.
export function byDataset<R extends { dataset?: string | null }>(rows: R[]): [string, R[]][] {
  const groups = new Map<string, R[]>();
  for (const row of rows) {
    const dataset = row.dataset ?? '';
    const group = groups.get(dataset);
    if (group === undefined) groups.set(dataset, [row]);
    else group.push(row);
  }
  return [...groups];
}

export function averageTitle(datasets: number): string {
  return `average over ${datasets} data sets`;
}
