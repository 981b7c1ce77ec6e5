// The order of a table's rows.

import type { Row, Sheet } from './sheet';

/// By the rows' names, or by a column.
export type Order = { by: string; descending: boolean };
export const NAME = 'name';

/// `-h`: by the column `h`, the greatest first.
export function parse(text: string | null): Order | null {
  if (text === null || text === '' || text === '-') return null;
  return text.startsWith('-') ? { by: text.slice(1), descending: true } : { by: text, descending: false };
}

/// What a click on the heading `by` makes of the order, to be written into the address: numbers begin with the greatest, names
/// with the first; the third click gives the table's own order back.
export function next(order: Order | null, by: string): string | null {
  const first = by !== NAME;
  if (order?.by !== by) return first ? `-${by}` : by;
  if (order.descending !== first) return null;
  return first ? by : `-${by}`;
}

export function ariaSort(order: Order | null, by: string): 'ascending' | 'descending' | undefined {
  if (order?.by !== by) return undefined;
  return order.descending ? 'descending' : 'ascending';
}

/// Rows are sorted within their group; what has no number yet comes last.
export function sorted(sheet: Sheet, order: Order | null): Sheet {
  if (order === null) return sheet;
  const sign = order.descending ? -1 : 1;
  const at = sheet.columns.findIndex((column) => column.key === order.by);
  if (at < 0 && order.by !== NAME) return sheet;
  const compare = (a: Row, b: Row) => {
    if (order.by === NAME) return sign * a.label.localeCompare(b.label, 'en', { numeric: true });
    const [left, right] = [a.cells[at]?.summary, b.cells[at]?.summary];
    if (left == null || right == null) return Number(left == null) - Number(right == null);
    return sign * (left.mean - right.mean);
  };
  return { ...sheet, groups: sheet.groups.map((group) => ({ ...group, rows: [...group.rows].sort(compare) })) };
}
