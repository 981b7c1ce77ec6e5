// What a person should know at once, wherever on the page they are: jobs that failed for good, workers that were
// lost, and pools that were paused.

import { type Event, live } from './live.svelte';

export type Failed = { job: number; reason: string };
export type Lost = { worker: number; name: string };
export type Paused = { pool: string; reason: string };

class Notices {
  failed = $state.raw<readonly Failed[]>([]);
  lost = $state.raw<readonly Lost[]>([]);
  paused = $state.raw<readonly Paused[]>([]);

  constructor() {
    live.listen({ event: (event) => this.take(event), reset: () => {} });
  }

  dismissFailed() {
    this.failed = [];
  }

  dismissLost() {
    this.lost = [];
  }

  dismissPaused() {
    this.paused = [];
  }

  private take(event: Event) {
    if (event.type === 'job_changed') {
      // Someone had it run again: that it failed is known.
      const others = this.failed.filter((one) => one.job !== event.job);
      if (event.to === 'failed') this.failed = [...others, { job: event.job, reason: event.reason ?? '' }];
      else if (others.length !== this.failed.length) this.failed = others;
    } else if (event.type === 'worker_changed') {
      const others = this.lost.filter((one) => one.worker !== event.worker);
      if (event.to === 'lost') this.lost = [...others, { worker: event.worker, name: event.name }];
      else if (others.length !== this.lost.length) this.lost = others;
    } else if (event.type === 'pool_changed') {
      const others = this.paused.filter((one) => one.pool !== event.pool);
      if (event.to === 'paused') this.paused = [...others, { pool: event.pool, reason: event.reason ?? '' }];
      else if (others.length !== this.paused.length) this.paused = others;
    }
  }
}

export const notices = new Notices();
