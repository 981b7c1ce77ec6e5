// When to ask about an experiment's cost and remaining time again.

import type { ExperimentSummary } from '../api/questions';
import { open } from '../states';

/// How often it is asked about while jobs are open if nothing happens, and if much does, in ms.
const CALM = 10_000;
export const BUSY = 2000;

/// What is over stays as it is.
export function due(experiment: ExperimentSummary, asked: { at: number; counts: string } | undefined, now: number): boolean {
  if (asked === undefined) return true;
  if (JSON.stringify(experiment.counts) !== asked.counts) return now - asked.at >= BUSY;
  return open(experiment.counts) > 0 && now - asked.at >= CALM;
}
