// When an experiment will be done, in words.

import type { Forecast } from '../api/questions';
import { relative } from '../format';

const MINUTE = 60_000;

/// `in 3 min 20 s`; `null` while nobody can tell. Nothing that is still to be done is done now.
export function etaWords({ eta }: Pick<Forecast, 'eta'>, now: Date): string | null {
  if (eta == null) return null;
  return new Date(eta).getTime() - now.getTime() < MINUTE ? 'in less than a minute' : relative(eta, now);
}
