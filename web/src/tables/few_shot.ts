// Few-shot: accuracy over the number of training images per class.

import type { Schemas } from '../api/client';
import { total } from '../states';
import { type Cell, EMPTY, type Column, type Group, type Label, type Row, type Sheet, averageTitle, byDataset, cell, lineKey, lineName } from './sheet';

type FewShot = Schemas['FewShot'];
type Line = Schemas['FewShotRow'];

export function shotsWords(shots: number): string {
  return shots === 1 ? '1 shot' : `${shots} shots`;
}

const of = (from: Cell, shots: number | undefined): Cell => (shots === undefined ? from : { ...from, shots });

/// A group for each data set: methods down, shots across.
export function byDatasets(table: FewShot, label: Label): Sheet {
  const columns: Column[] = table.shots.map((shots) => ({ key: String(shots), label: shotsWords(shots), over: null, dataset: null }));
  const row = (line: Line): Row => ({
    key: lineKey(line),
    label: lineName(line, label, false),
    method: line.method,
    variant: line.variant,
    cells: line.cells.map((from, i) => of(cell(from, line.dataset ?? null, line.dataset == null), table.shots[i])),
  });
  const groups: Group[] = byDataset(table.rows).map(([dataset, lines]) => (
    { key: dataset, title: dataset, dataset, rows: lines.map(row) }
  ));
  if (groups.length > 1) {
    groups.push({ key: '', title: averageTitle(groups.length), dataset: null, rows: table.average.map(row) });
  }
  return { columns, groups, grouped: true, compared: false };
}

/// A group for each number of shots: methods down, data sets across.
export function byShots(table: FewShot, label: Label): Sheet {
  const datasets = byDataset(table.rows);
  const columns: Column[] = datasets.map(([dataset]) => ({ key: dataset, label: dataset, over: null, dataset }));
  const hasAverage = datasets.length > 1;
  if (hasAverage) columns.push({ key: 'average', label: 'average', over: null, dataset: null });
  const groups = table.shots.map((shots, at): Group => {
    const rows = table.average.map((average): Row => {
      const key = lineKey(average);
      const lines = datasets.map(([, lines]) => lines.find((line) => lineKey(line) === key));
      const cells = [...lines, ...(hasAverage ? [average] : [])].map((line) => {
        const from = line?.cells[at] ?? { jobs: EMPTY };
        return of(cell(from, line?.dataset ?? null, line?.dataset == null), shots);
      });
      return { key, label: lineName(average, label, false), method: average.method, variant: average.variant, cells };
    });
    // Methods that learn nothing have no shots, the others have nothing at none.
    const some = rows.filter((row) => row.cells.some((cell) => total(cell.jobs) > 0));
    return { key: String(shots), title: shotsWords(shots), dataset: null, rows: some };
  });
  return { columns, groups, grouped: true, compared: false };
}
