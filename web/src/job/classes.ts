// An evaluation by class, as it's shown.

import type { Schemas } from '../api/client';

/// As `openapi-fetch` reads it, in which a pair is a list of numbers.
type Counted = Omit<Schemas['ClassCounts'], 'confused'> & { confused: number[][] };

export type ClassRow = {
  name: string;
  images: number;
  /// In per cent.
  recall: number;
  /// In per cent; `null` if nothing was taken for the class.
  precision: number | null;
  /// What it was taken for instead, most often first.
  confused: { name: string; images: number }[];
};

export function classRows({ classes }: { classes: Counted[] }): ClassRow[] {
  return classes.map((one) => ({
    name: one.name,
    images: one.images,
    recall: one.images === 0 ? 0 : (100 * one.correct) / one.images,
    precision: one.predicted === 0 ? null : (100 * one.correct) / one.predicted,
    confused: one.confused
      .map(([label = -1, images = 0]) => ({ name: classes[label]?.name ?? `class ${label}`, images }))
      .sort((a, b) => b.images - a.images),
  }));
}

export type Order = 'given' | 'name' | 'worst';

export function ordered(rows: readonly ClassRow[], order: Order): ClassRow[] {
  if (order === 'name') return rows.toSorted((a, b) => a.name.localeCompare(b.name, 'en'));
  if (order === 'worst') return rows.toSorted((a, b) => a.recall - b.recall || b.images - a.images);
  return [...rows];
}
