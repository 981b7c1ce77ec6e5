// A cell in words, on the screen and for who listens.

import { accuracy } from '../format';
import { done, open, total } from '../states';
import type { Cell, Summary } from './sheet';

/// What can still become of a cell: `none` has no jobs; `failed` and `cancelled` lack what won't come by itself.
export type Standing = 'none' | 'final' | 'open' | 'failed' | 'cancelled';

export function standing({ jobs }: Cell): Standing {
  if (total(jobs) === 0) return 'none';
  if (done(jobs) === total(jobs)) return 'final';
  if (open(jobs) > 0) return 'open';
  return jobs.failed > 0 ? 'failed' : 'cancelled';
}

/// `83.12 ± 0.41`; one seed has no deviation.
export function mean({ mean, std, n }: Summary): string {
  return n > 1 ? `${accuracy(mean)} ± ${accuracy(std)}` : accuracy(mean);
}

/// The cell's number, or what stands in its place.
export function value(cell: Cell): string {
  if (cell.summary !== null) return mean(cell.summary);
  const state = standing(cell);
  if (state === 'failed' || state === 'cancelled') return state;
  return state === 'none' ? '' : '–';
}

/// What the number rests on: `n=3`, or while something is missing `2/3`, of jobs where they aren't seeds. What failed is said
/// when nothing else is to come.
export function basis(cell: Cell): string {
  const state = standing(cell);
  if (state === 'none') return '';
  if (state === 'final') return `n=${cell.summary?.n ?? 0}`;
  if (state === 'failed' && cell.summary !== null) {
    return cell.aggregate ? `${cell.jobs.failed} failed` : `${cell.jobs.failed}/${total(cell.jobs)} failed`;
  }
  return `${done(cell.jobs)}/${total(cell.jobs)}${cell.aggregate ? ' jobs' : ''}`;
}

/// What a provisional cell lacks, as a sentence; `null` if it lacks nothing.
export function lacks(cell: Cell): string | null {
  const state = standing(cell);
  if (state === 'none' || state === 'final') return null;
  const { running, leased, failed, cancelled } = cell.jobs;
  const parts = [`${done(cell.jobs)} of ${total(cell.jobs)} ${cell.aggregate ? 'jobs' : 'seeds'}`];
  for (const [number, word] of [[running + leased, 'running'], [failed, 'failed'], [cancelled, 'cancelled']] as const) {
    if (number > 0) parts.push(`${number} ${word}`);
  }
  return `${cell.summary === null ? 'no result yet' : 'provisional'}: ${parts.join(', ')}`;
}

export type Verdict = 'within' | 'above' | 'below';

/// How our mean stands to a published one: within the spread of our seeds, or what rounds to nothing, they say the same.
export function verdict(difference: number, std: number): Verdict {
  if (Math.abs(difference) <= Math.max(std, 0.005)) return 'within';
  return difference > 0 ? 'above' : 'below';
}

export const VERDICTS: Record<Verdict, string> = {
  within: 'within the spread',
  above: 'above',
  below: 'below',
};

/// Changes exactly when what the cell shows does.
export function signature(cell: Cell): string {
  return `${value(cell)}|${basis(cell)}|${standing(cell)}`;
}
