// Who is best and second in a column.

import { accuracy } from '../format';
import type { Cell, Row } from './sheet';
import { standing } from './words';

export type Rank = 'best' | 'second' | null;

/// An average that lacks jobs: it may be over other data sets than the next one, so that the two can't be compared.
function isOfSome(cell: Cell | undefined): boolean {
  return cell !== undefined && cell.aggregate && cell.dataset === null && !['none', 'final'].includes(standing(cell));
}

function printed(cell: Cell | undefined): number | null {
  return cell == null || cell.summary === null ? null : Number(accuracy(cell.summary.mean));
}

/// The columns in which nobody is known to be the best: an average among several lacks jobs.
export function unranked(rows: Row[]): boolean[] {
  const columns = Math.max(0, ...rows.map((row) => row.cells.length));
  return Array.from({ length: columns }, (_, i) => {
    const candidates = rows.filter(({ cells }) => isOfSome(cells[i]) || printed(cells[i]) !== null);
    return candidates.length > 1 && candidates.some(({ cells }) => isOfSome(cells[i]));
  });
}

/// A rank for each cell of each row, among the rows given. What is printed alike ranks alike; where there is only one number,
/// nothing is best, and in a column of averages of which one lacks jobs neither.
export function ranks(rows: Row[]): Rank[][] {
  const places = unranked(rows).map((isUnranked, i) => {
    const means = rows.map((row) => printed(row.cells[i])).filter((mean) => mean !== null);
    return means.length > 1 && !isUnranked ? [...new Set(means)].sort((a, b) => b - a) : [];
  });
  return rows.map((row) => row.cells.map((cell, i) => {
    const mean = printed(cell);
    const place = mean === null ? null : places[i]?.indexOf(mean);
    return place === 0 ? 'best' : place === 1 ? 'second' : null;
  }));
}
