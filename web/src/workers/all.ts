// All workers there ever were.

import { api, ask } from '../api/client';
import type { Worker } from './list';

const PAGE = 1000;

export async function allWorkers(): Promise<{ workers: Worker[]; total: number }> {
  const workers: Worker[] = [];
  let cursor: string | null | undefined;
  let total = 0;
  do {
    const query = { limit: PAGE, ...(cursor ? { cursor } : {}) };
    const page = await ask(api.GET('/api/v1/workers', { params: { query } }));
    workers.push(...page.items);
    total = page.total;
    cursor = page.next;
  } while (cursor);
  return { workers, total };
}
