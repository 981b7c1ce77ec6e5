// An experiment while it is being put together: what stands in the fields of the form, and what that means.

import type { Schemas } from '../api/client';

export type Document = Schemas['ExperimentDocument'];
export type Setting = { dataset: string; name: string; value: string };

export type Draft = {
  name: string;
  protocol: Document['protocol'];
  methods: string[];
  /// `all`: those of the protocol.
  datasets: string[] | 'all';
  source: string;
  seeds: string;
  shots: string;
  backbone: string;
  precision: string;
  priority: string;
  maxRunning: string;
  labels: string;
  overrides: Setting[];
  sweep: Setting[];
};

/// The numbers of shots that papers report.
export function usualShots(protocol: Draft['protocol']): string {
  return protocol === 'few_shot' ? '1, 2, 4, 8, 16' : '16';
}

export function blank(): Draft {
  return {
    name: '', protocol: 'base_to_new', methods: [], datasets: [], source: 'imagenet', seeds: '1, 2, 3', shots: usualShots('base_to_new'),
    backbone: '', precision: 'fp32', priority: '0', maxRunning: '', labels: '', overrides: [], sweep: [],
  };
}

function words(text: string): string[] {
  return text.split(/[\s,]+/).filter((word) => word !== '');
}

/// A whole number, or the text as it stands: the coordinator says best what is wrong with it.
function whole(text: string): number {
  const number = Number(text);
  return (/^-?\d+$/.test(text) && Number.isSafeInteger(number) ? number : text) as number;
}

/// A value as in an experiment file: a number, a list, a table; anything else is text.
function value(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text.trim();
  }
}

/// `0.1, 0.2` or `[1, 2], [3]`: several values.
function values(text: string): unknown[] {
  try {
    return JSON.parse(`[${text}]`) as unknown[];
  } catch {
    return text.split(',').map((part) => value(part.trim()));
  }
}

/// A schedule of evaluations has one number, which stands for it in the form.
function setting(name: string, text: string): unknown {
  const read = value(text);
  return name === 'eval' && typeof read === 'number' ? { every_epochs: read } : read;
}

function settingText(read: unknown): string {
  if (typeof read === 'object' && read !== null && 'every_epochs' in read) return String(read.every_epochs);
  return typeof read === 'string' ? read : JSON.stringify(read);
}

/// What is submitted. What is empty is left out, and gets the usual value.
export function documentOf(draft: Draft): Document {
  const overrides: Record<string, unknown> = {};
  for (const { dataset, name, value } of draft.overrides.filter(({ name }) => name !== '')) {
    const table = dataset === '' ? overrides : ((overrides[dataset] ??= {}) as Record<string, unknown>);
    table[name] = setting(name, value);
  }
  const sweep = Object.fromEntries(draft.sweep.filter(({ name }) => name !== '').map(({ name, value }) => [name, values(value)]));
  return {
    name: draft.name.trim(),
    protocol: draft.protocol,
    methods: draft.methods as Document['methods'],
    datasets: draft.datasets,
    ...(draft.protocol === 'cross_dataset' && draft.source !== '' ? { source: draft.source } : {}),
    seeds: words(draft.seeds).map(whole),
    shots: words(draft.shots).map(whole),
    backbone: draft.backbone,
    ...(draft.precision === '' ? {} : { precision: draft.precision as NonNullable<Document['precision']> }),
    ...(['', '0'].includes(draft.priority.trim()) ? {} : { priority: whole(draft.priority.trim()) }),
    ...(draft.maxRunning.trim() === '' ? {} : { max_running: whole(draft.maxRunning.trim()) }),
    ...(words(draft.labels).length === 0 ? {} : { labels: words(draft.labels) }),
    ...(Object.keys(overrides).length === 0 ? {} : { overrides: overrides as NonNullable<Document['overrides']> }),
    ...(Object.keys(sweep).length === 0 ? {} : { sweep }),
  };
}

/// The form filled from an experiment that was submitted. A table among its overrides is a data set's, but for a schedule.
export function draftOf(experiment: Schemas['Experiment']): Draft {
  const overrides = Object.entries(experiment.overrides).flatMap(([name, read]): Setting[] => {
    if (read === null || read === undefined) return [];
    const isTable = typeof read === 'object' && !Array.isArray(read) && !('every_epochs' in read);
    if (!isTable) return [{ dataset: '', name, value: settingText(read) }];
    return Object.entries(read)
      .filter(([, inner]) => inner !== null)
      .map(([inner, value]) => ({ dataset: name, name: inner, value: settingText(value) }));
  });
  return {
    name: experiment.name,
    protocol: experiment.protocol,
    methods: [...experiment.methods],
    datasets: [...experiment.datasets],
    source: experiment.source ?? 'imagenet',
    seeds: experiment.seeds.join(', '),
    shots: experiment.shots.join(', '),
    backbone: experiment.backbone,
    precision: experiment.precision,
    priority: String(experiment.priority),
    maxRunning: experiment.max_running == null ? '' : String(experiment.max_running),
    labels: (experiment.labels ?? []).join(', '),
    overrides,
    sweep: Object.entries(experiment.sweep).map(([name, list]) => ({ dataset: '', name, value: list.map(settingText).join(', ') })),
  };
}
