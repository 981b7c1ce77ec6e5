// A list of jobs that is loaded page by page as it is scrolled. What is loaded stays where it is while jobs change; the jobs
// themselves are kept up to date.

import { Failure, type Schemas, api, ask } from '../api/client';
import type { Event } from '../live.svelte';
import type { State } from '../states';

type Job = Schemas['JobSummary'];
export type Filter = {
  experiment: number;
  state: State | null;
  dataset: string | null;
  method: Schemas['Method'] | null;
  variant: string | null;
  stage: Schemas['Stage'] | null;
  shots: number | null;
};

const PAGE = 500;
const PACE = 1000;
/// Jobs whose details are asked for one by one after something happened to them, at a time.
const AT_ONCE = 8;

export class Pages {
  items = $state.raw<Job[]>([]);
  total = $state<number | null>(null);
  /// How many there were when the list began.
  private began = 0;
  isComplete = $state(false);
  error = $state.raw<Failure | null>(null);
  loading = $state(false);
  private cursor: string | undefined;
  private isClosed = false;
  private loaded = new Set<number>();
  private dirty = new Set<number>();
  private changes = new Map<number, Partial<Job>>();
  private frame = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private filter: Filter) {}

  async more() {
    if (this.loading || this.isComplete || this.isClosed) return;
    this.loading = true;
    await this.guarded(async () => {
      const page = await this.ask(PAGE, this.filter.state, this.cursor);
      if (this.total === null) this.began = page.total;
      this.total = page.total;
      this.items = [...this.items, ...page.items];
      for (const job of page.items) this.loaded.add(job.id);
      this.cursor = page.next ?? undefined;
      this.isComplete = this.cursor === undefined;
    });
    this.loading = false;
  }

  /// Jobs came into the list or left it since it was loaded.
  get isOutdated(): boolean {
    const { state } = this.filter;
    return state !== null && ((this.total ?? 0) !== this.began || this.items.some((job) => job.state !== state));
  }

  take(event: Event) {
    if (event.type !== 'job_changed') return;
    if (this.loaded.has(event.job)) {
      this.put(new Map([[event.job, { state: event.to, worker: event.worker ?? null }]]));
      this.dirty.add(event.job);
    }
    this.soon();
  }

  /// Progress of what runs.
  async progress() {
    if (this.isClosed || !this.items.some((job) => job.state === 'running' || job.state === 'leased')) return;
    await this.guarded(async () => {
      const running = await this.ask(PAGE, 'running', undefined);
      this.put(new Map(running.items.map((job) => [job.id, job])));
    });
  }

  close() {
    this.isClosed = true;
    clearTimeout(this.timer);
    cancelAnimationFrame(this.frame);
  }

  private soon() {
    this.timer ??= setTimeout(() => {
      this.timer = undefined;
      void this.catchUp();
    }, PACE);
  }

  /// Results and reasons of jobs that changed, and the total.
  private async catchUp() {
    const jobs = [...this.dirty].slice(0, AT_ONCE);
    for (const id of jobs) this.dirty.delete(id);
    await this.guarded(async () => {
      const found = await Promise.all(jobs.map((id) => ask(api.GET('/api/v1/jobs/{id}', { params: { path: { id } } }))));
      this.put(new Map(found.map((job) => [job.id, job])));
      if (this.filter.state !== null) this.total = (await this.ask(1, this.filter.state, undefined)).total;
    });
    if (this.dirty.size > 0 && !this.isClosed) this.soon();
  }

  private ask(limit: number, state: State | null, cursor: string | undefined) {
    const { experiment, dataset, method, variant, stage, shots } = this.filter;
    const query = {
      limit,
      ...(cursor === undefined ? {} : { cursor }),
      ...(state === null ? {} : { state }),
      ...(dataset === null ? {} : { dataset }),
      ...(method === null ? {} : { method }),
      ...(variant === null ? {} : { variant }),
      ...(stage === null ? {} : { stage }),
      ...(shots === null ? {} : { shots }),
    };
    return ask(api.GET('/api/v1/experiments/{id}/jobs', { params: { path: { id: experiment }, query } }));
  }

  /// However many changes come, the list is made anew once a frame.
  private put(changes: Map<number, Partial<Job>>) {
    for (const [id, change] of changes) this.changes.set(id, { ...this.changes.get(id), ...change });
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      const { changes } = this;
      this.changes = new Map();
      if (changes.size > 0) this.items = this.items.map((job) => (changes.has(job.id) ? { ...job, ...changes.get(job.id) } : job));
    });
  }

  private async guarded(what: () => Promise<void>) {
    try {
      await what();
      this.error = null;
    } catch (error) {
      this.error = error instanceof Failure ? error : new Failure(String(error), null);
    }
  }
}
