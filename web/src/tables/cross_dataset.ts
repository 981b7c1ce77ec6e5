// Cross-dataset transfer: the source, the targets and their mean, the variants of ImageNet and theirs.

import type { Schemas } from '../api/client';
import { type Column, type Label, type Row, type Sheet, cell, lineKey, lineName, severalShots } from './sheet';

/// Those that the coordinator averages by themselves.
const VARIANTS = ['imagenetv2', 'imagenet_sketch', 'imagenet_a', 'imagenet_r'];

export function crossDataset(table: Schemas['CrossDataset'], label: Label): Sheet {
  const several = severalShots(table.rows);
  const places = (variants: boolean) =>
    table.targets.flatMap((target, i) => (VARIANTS.includes(target) === variants ? [{ target, i }] : []));
  const parts = [
    { over: 'Targets', average: 'average' as const, key: 'average', places: places(false) },
    { over: 'ImageNet variants', average: 'variants_average' as const, key: 'variants', places: places(true) },
  ].filter((part) => part.places.length > 0);

  const columns: Column[] = [];
  if (table.source != null) {
    columns.push({ key: 'source', label: table.source, over: 'Source', dataset: null });
  }
  for (const { over, key, places } of parts) {
    for (const { target } of places) columns.push({ key: target, label: target, over, dataset: target });
    if (places.length > 1) columns.push({ key, label: 'average', over, dataset: null });
  }

  const rows = table.rows.map((line): Row => {
    const cells = table.source != null ? [cell(line.source, table.source)] : [];
    for (const { average, places } of parts) {
      for (const { target, i } of places) {
        const found = line.targets[i];
        if (found !== undefined) cells.push(cell(found, target));
      }
      if (places.length > 1) cells.push(cell(line[average], null, true));
    }
    const { method, variant, shots } = line;
    return { key: lineKey(line), label: lineName(line, label, several), method, variant, ...(several ? { shots } : {}), cells };
  });
  return { columns, groups: [{ key: '', title: '', dataset: null, rows }], grouped: false, compared: false };
}
