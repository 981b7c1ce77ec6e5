// What has happened since the page was opened, as far as it's kept.

import { type Event, live } from '../live.svelte';

const MOST = 5000;
/// How many are dropped at once, so that a full record isn't moved for each event.
const SLACK = 500;

class Record {
  /// Oldest first; no reactive state, since there may be hundreds a second. `version` says when there are more.
  events: Event[] = [];
  version = $state(0);
  /// Events that are kept no more.
  dropped = $state(0);
  private frame = 0;

  constructor() {
    live.listen({ event: (event) => this.take(event), reset: () => {} });
  }

  private take(event: Event) {
    this.events.push(event);
    if (this.events.length >= MOST + SLACK) {
      this.dropped += this.events.length - MOST;
      this.events = this.events.slice(-MOST);
    }
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.version++;
    });
  }
}

export const record = new Record();
