// A specification as pairs of name and value, in the order in which it's read.

import type { Schemas } from '../api/client';
import { methodName, protocolName } from '../names.svelte';

export type Fact = readonly [name: string, value: string];

export function aboutSpec(spec: Schemas['JobSpec']): Fact[] {
  return [
    ['method', methodName(spec.method)],
    ['protocol', protocolName(spec.protocol)],
    ['stage', spec.stage],
    ['data set', spec.dataset],
    ['template', spec.template],
    ['shots', String(spec.shots)],
    ['seed', String(spec.seed)],
    ['backbone', spec.backbone],
    ['precision', spec.precision],
    ['configuration', spec.config],
  ];
}

/// The hyper-parameters under the keys that overrides have; nested ones dotted.
export function aboutHyper(hyper: Schemas['Values']): Fact[] {
  return flat(hyper, '').sort(([a], [b]) => a.localeCompare(b, 'en'));
}

function flat(value: object, before: string): Fact[] {
  return Object.entries(value).flatMap(([key, inner]: [string, unknown]): Fact[] => {
    if (inner === null || inner === undefined) return [];
    if (Array.isArray(inner)) return [[before + key, inner.join(', ')]];
    if (typeof inner === 'object') return flat(inner, `${before}${key}.`);
    return [[before + key, String(inner)]];
  });
}

/// `656 344 bytes`, `1.2 MB`: in powers of ten, as file managers say it.
export function bytes(value: number): string {
  if (value < 10_000) return `${value} B`;
  for (const [unit, size] of [['GB', 1e9], ['MB', 1e6]] as const) {
    if (value >= size) return `${(value / size).toFixed(1)} ${unit}`;
  }
  return `${Math.round(value / 1e3)} kB`;
}
