// Who is best and second in a column.

import { accuracy } from '../format';
import type { Row } from './sheet';

export type Rank = 'best' | 'second' | null;

/// A rank for each cell of each row, among the rows given. What is printed alike ranks alike; where there is only one number,
/// nothing is best.
export function ranks(rows: Row[]): Rank[][] {
  const columns = Math.max(0, ...rows.map((row) => row.cells.length));
  const places = Array.from({ length: columns }, (_, i) => {
    const summaries = rows.map((row) => row.cells[i]?.summary ?? null).filter((summary) => summary !== null);
    const values = [...new Set(summaries.map(({ mean }) => Number(accuracy(mean))))].sort((a, b) => b - a);
    return summaries.length > 1 ? values : [];
  });
  return rows.map((row) => row.cells.map(({ summary }, i) => {
    if (summary === null) return null;
    const place = places[i]?.indexOf(Number(accuracy(summary.mean)));
    return place === 0 ? 'best' : place === 1 ? 'second' : null;
  }));
}
