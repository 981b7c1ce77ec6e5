// What of a table is shown.

import type { Sheet, Table } from './sheet';

export type Choice = {
  /// The methods that are hidden.
  hidden: string[];
  /// Only data sets whose name has this in it.
  filter: string;
};

/// Averages stay: they are over all data sets, and say so.
export function visible(sheet: Sheet, { hidden, filter }: Choice): Sheet {
  const wanted = filter.trim().toLowerCase();
  const isShown = (dataset: string | null) => dataset === null || dataset.toLowerCase().includes(wanted);
  const columns = sheet.columns.map((column) => isShown(column.dataset));
  const kept = <T>(list: T[]) => list.filter((_, i) => columns[i]);
  const groups = sheet.groups.filter((group) => isShown(group.dataset)).map((group) => ({
    ...group,
    rows: group.rows
      .filter((row) => !hidden.includes(row.method))
      .map((row) => ({ ...row, cells: kept(row.cells) })),
  }));
  return { ...sheet, columns: kept(sheet.columns), groups: groups.filter((group) => group.rows.length > 0) };
}

/// The methods of a table, in its order.
export function methods(table: Table): string[] {
  return [...new Set(table.rows.map((row) => row.method))];
}
