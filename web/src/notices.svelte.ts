// What a person should know at once, wherever on the page they are: jobs that failed for good, and workers that were lost.

import { type Event, live } from './live.svelte';

export type Failed = { job: number; reason: string };
export type Lost = { worker: number; name: string };

class Notices {
  failed = $state.raw<readonly Failed[]>([]);
  lost = $state.raw<readonly Lost[]>([]);

  constructor() {
    live.listen({ event: (event) => this.take(event), reset: () => {} });
  }

  dismissFailed() {
    this.failed = [];
  }

  dismissLost() {
    this.lost = [];
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
    }
  }
}

export const notices = new Notices();
