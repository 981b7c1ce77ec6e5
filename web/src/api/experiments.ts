// The list of experiments, which comes in pages.

import { api, ask } from './client';
import type { ExperimentSummary } from './questions';

const PAGE = 500;

/// Every experiment, the newest first.
export async function experiments(): Promise<ExperimentSummary[]> {
  const all: ExperimentSummary[] = [];
  let cursor: string | null = null;
  do {
    const query: { limit: number; cursor?: string } = cursor === null ? { limit: PAGE } : { limit: PAGE, cursor };
    const page = await ask(api.GET('/api/v1/experiments', { params: { query } }));
    all.push(...page.items);
    cursor = page.next ?? null;
  } while (cursor !== null);
  return all.sort((a, b) => b.id - a.id);
}
