// When to ask about an experiment's cost and remaining time again.

import type { ExperimentSummary } from '../api/questions';
import { open } from '../states';

/// How often it is asked about while jobs are open if nothing happens, and if much does, in ms.
const CALM = 10_000;
export const BUSY = 2000;

/// When an experiment was asked about, and how its jobs stood then.
export type Asked = { at: number; counts: string };

/// Of those that are due, the one that was asked about first.
export function longestAgo(experiments: readonly ExperimentSummary[], asked: ReadonlyMap<number, Asked>, now: number): ExperimentSummary | undefined {
  const at = ({ id }: ExperimentSummary) => asked.get(id)?.at ?? 0;
  return experiments.filter((experiment) => due(experiment, asked.get(experiment.id), now)).sort((a, b) => at(a) - at(b))[0];
}

/// What is over stays as it is.
export function due(experiment: ExperimentSummary, asked: Asked | undefined, now: number): boolean {
  if (asked === undefined) return true;
  if (JSON.stringify(experiment.counts) !== asked.counts) return now - asked.at >= BUSY;
  return open(experiment.counts) > 0 && now - asked.at >= CALM;
}
