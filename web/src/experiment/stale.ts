// Results that rest on something else than what holds today, in words.

import type { Schemas } from '../api/client';
import { count } from '../format';

type Stale = Pick<Schemas['StaleResult'], 'because'>;

/// How many there are, and why if they share the reason.
export function staleWords(stale: readonly Stale[]): string {
  const reasons = new Set(stale.map(({ because }) => because));
  const number = stale.length === 1 ? '1 result is stale' : `${count(stale.length)} results are stale`;
  return reasons.size > 1 ? `${number}, for ${count(reasons.size)} reasons, which stand below its table.` : `${number}: ${[...reasons].join('')}.`;
}

/// What is asked before they are computed again.
export function rerunQuestion(experiment: number, stale: readonly Stale[]): string {
  const which = stale.length === 1 ? 'the stale result' : `the ${count(stale.length)} stale results`;
  return `Compute ${which} of experiment ${experiment} again, with the tests of their checkpoints? What is there now stays as an earlier result of its job and no longer counts.`;
}
