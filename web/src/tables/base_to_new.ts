// Base-to-new: accuracy on the classes seen and not seen in training, and their harmonic mean.

import type { Schemas } from '../api/client';
import { type Cell, type Column, type Group, type Label, type Row, type Sheet, averageTitle, byDataset, cell, lineKey, lineName, severalShots, sum } from './sheet';

type BaseToNew = Schemas['BaseToNew'];
type Line = Schemas['BaseToNewRow'];

const COLUMNS: Column[] = [
  { key: 'base', label: 'Base', over: null, dataset: null },
  { key: 'new', label: 'New', over: null, dataset: null },
  { key: 'h', label: 'H', over: null, dataset: null },
];

function harmonic(line: Line): Cell {
  return {
    summary: line.harmonic_mean ?? null,
    jobs: sum([line.base.jobs, line.new.jobs]),
    aggregate: true,
    beside: line.published?.harmonic_mean ?? null,
    dataset: line.dataset ?? null,
  };
}

function compared(table: BaseToNew): boolean {
  return table.rows.some((line) => line.published != null);
}

/// Data sets and methods down.
export function byDatasets(table: BaseToNew, label: Label): Sheet {
  const several = severalShots(table.rows);
  const row = (line: Line): Row => {
    const dataset = line.dataset ?? null;
    const aggregate = dataset === null;
    return {
      key: lineKey(line),
      label: lineName(line, label, several),
      method: line.method,
      variant: line.variant,
      ...(several ? { shots: line.shots } : {}),
      cells: [
        // Base classes are tested by who trained on them.
        { ...cell(line.base, dataset, aggregate, line.published?.base), stage: 'train' },
        { ...cell(line.new, dataset, aggregate, line.published?.new), stage: 'test' },
        harmonic(line),
      ],
    };
  };
  const groups: Group[] = byDataset(table.rows).map(([dataset, lines]) => (
    { key: dataset, title: dataset, dataset, rows: lines.map(row) }
  ));
  if (groups.length > 1) {
    groups.push({ key: '', title: averageTitle(groups.length), dataset: null, rows: table.average.map(row) });
  }
  return { columns: COLUMNS, groups, grouped: true, compared: compared(table) };
}

/// Methods down, data sets across, as papers print H.
export function byMethods(table: BaseToNew, label: Label): Sheet {
  const several = severalShots(table.rows);
  const datasets = byDataset(table.rows).map(([dataset]) => dataset);
  const columns: Column[] = datasets.map((dataset) => ({ key: dataset, label: dataset, over: null, dataset }));
  const hasAverage = datasets.length > 1;
  if (hasAverage) columns.push({ key: 'average', label: 'average', over: null, dataset: null });
  const rows = table.average.map((average): Row => {
    const key = lineKey(average);
    const cells = datasets.map((dataset) => {
      const line = table.rows.find((line) => line.dataset === dataset && lineKey(line) === key);
      return line === undefined ? null : harmonic(line);
    });
    if (hasAverage) cells.push(harmonic(average));
    return {
      key,
      label: lineName(average, label, several),
      method: average.method,
      variant: average.variant,
      ...(several ? { shots: average.shots } : {}),
      cells: cells.map((cell, i) => cell ?? { summary: null, jobs: sum([]), aggregate: true, beside: null, dataset: datasets[i] ?? null }),
    };
  });
  return { columns, groups: [{ key: '', title: '', dataset: null, rows }], grouped: false, compared: compared(table) };
}
