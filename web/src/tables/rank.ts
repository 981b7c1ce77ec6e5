// Who is best and second in a column.

import { accuracy } from '../format';
import type { Cell, Row } from './sheet';
import { standing } from './words';

export type Rank = 'best' | 'second' | null;

function comparable(cell: Cell | undefined): number | null {
  if (cell == null || cell.summary === null) return null;
  const isOfSome = cell.aggregate && cell.dataset === null && standing(cell) !== 'final';
  return isOfSome ? null : Number(accuracy(cell.summary.mean));
}

/// A rank for each cell of each row, among the rows given. What is printed alike ranks alike; where there is only one number,
/// nothing is best. An average that lacks jobs may be over other data sets than the next one: the two can't be compared.
export function ranks(rows: Row[]): Rank[][] {
  const columns = Math.max(0, ...rows.map((row) => row.cells.length));
  const places = Array.from({ length: columns }, (_, i) => {
    const means = rows.map((row) => comparable(row.cells[i])).filter((mean) => mean !== null);
    return means.length > 1 ? [...new Set(means)].sort((a, b) => b - a) : [];
  });
  return rows.map((row) => row.cells.map((cell, i) => {
    const mean = comparable(cell);
    const place = mean === null ? null : places[i]?.indexOf(mean);
    return place === 0 ? 'best' : place === 1 ? 'second' : null;
  }));
}
