// What the jobs that workers hold are, and how far they have come. No list has it, so that jobs are asked for one by one: a few
// at a time, in turn.

import { type Schemas, api, ask } from '../api/client';

const AT_ONCE = 12;

export class Running {
  jobs = $state.raw<ReadonlyMap<number, Schemas['JobSummary']>>(new Map());
  private turn = 0;
  private isAsking = false;

  /// Asks for those that aren't known, then for those whose turn it is.
  async look(wanted: readonly number[]) {
    if (this.isAsking || wanted.length === 0) return;
    this.isAsking = true;
    const unknown = wanted.filter((id) => !this.jobs.has(id));
    const start = this.turn % wanted.length;
    const inTurn = [...wanted.slice(start), ...wanted.slice(0, start)].filter((id) => this.jobs.has(id));
    const ids = [...unknown, ...inTurn].slice(0, AT_ONCE);
    this.turn += Math.max(0, ids.length - unknown.length);
    const found = await Promise.all(
      ids.map((id) => ask(api.GET('/api/v1/jobs/{id}', { params: { path: { id } } })).catch(() => null)),
    );
    const kept = [...this.jobs].filter(([id]) => wanted.includes(id));
    this.jobs = new Map([...kept, ...found.flatMap((job) => (job === null ? [] : [[job.id, job] as const]))]);
    this.isAsking = false;
  }
}
