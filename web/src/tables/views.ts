// The ways to lay out a protocol's table.

import * as baseToNew from './base_to_new';
import { crossDataset } from './cross_dataset';
import * as fewShot from './few_shot';
import type { Label, Sheet, Table } from './sheet';

type View = { key: string; words: string };

/// The first is the usual one.
export const VIEWS: Record<Table['protocol'], View[]> = {
  base_to_new: [
    { key: 'datasets', words: 'base, new and H' },
    { key: 'methods', words: 'H across data sets' },
  ],
  cross_dataset: [],
  few_shot: [
    { key: 'datasets', words: 'by data set' },
    { key: 'shots', words: 'by shots' },
    { key: 'curves', words: 'curves only' },
  ],
};

/// The view that an address asks for, or the usual one.
export function viewOf(protocol: Table['protocol'], asked: string | null): string {
  const views = VIEWS[protocol];
  return views.find((view) => view.key === asked)?.key ?? views[0]?.key ?? '';
}

/// What the numbers are.
export function captionOf(protocol: Table['protocol'], view: string): string {
  const what = protocol === 'base_to_new' && view === 'methods' ? 'harmonic mean (H) of base and new accuracy' : 'accuracy';
  return `${what} in per cent, mean ± deviation over the seeds`;
}

export function sheetOf(table: Table, view: string, label: Label): Sheet {
  switch (table.protocol) {
    case 'base_to_new':
      return view === 'methods' ? baseToNew.byMethods(table, label) : baseToNew.byDatasets(table, label);
    case 'cross_dataset':
      return crossDataset(table, label);
    case 'few_shot':
      return view === 'shots' ? fewShot.byShots(table, label) : fewShot.byDatasets(table, label);
  }
}
