// What happens at the coordinator, as it happens: one stream of events for the page, which comes back by itself.
//
// Views listen for what concerns them. After a break that the stream can't bridge, they are told to look at everything again.

import type { Schemas } from './api/client';
import { session } from './session.svelte';
import { EventParser } from './sse';

export type Event = Schemas['Event'];
type State = 'connecting' | 'live' | 'lost';
type Listener = { event(event: Event): void; reset(): void };

/// The coordinator says something every 15 s; who is silent for so long in ms is gone.
const SILENCE = 40_000;
const PAUSES = [500, 1000, 2000, 5000, 10_000];
/// The first questions wait so long for the stream at most, in ms.
const PATIENCE = 1000;

class Live {
  state = $state<State>('connecting');
  /// Whether questions may be asked: what is asked before the stream is there has to be asked again when it is, since nobody
  /// told what happened between the two. A stream that doesn't come holds nothing up for long.
  isReady = $state(false);
  /// When the last word came.
  heard = $state<Date | null>(null);
  /// How often the coordinator or the network came back: what could not be asked then can be asked now.
  returns = $state(0);
  private listeners = new Set<Listener>();
  private last: string | null = null;
  private wake = () => {};

  /// Follows the events until the page is closed.
  async run() {
    addEventListener('online', () => {
      this.returns++;
      this.wake();
    });
    for (let failures = 0; ; failures++) {
      const began = Date.now();
      await this.follow().catch(() => {});
      this.mayAsk();
      this.state = 'lost';
      if (Date.now() - began > SILENCE) failures = 0;
      await this.pause(PAUSES[Math.min(failures, PAUSES.length - 1)] ?? 0);
    }
  }

  /// Tries again at once: the user signed in, or the network is back.
  retry() {
    this.wake();
  }

  /// Listens until the function that is returned is called.
  listen(listener: Listener): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  private async follow() {
    const controller = new AbortController();
    setTimeout(() => this.mayAsk(), PATIENCE);
    let watchdog = setTimeout(() => controller.abort(), SILENCE);
    const alive = () => {
      clearTimeout(watchdog);
      watchdog = setTimeout(() => controller.abort(), SILENCE);
      this.heard = new Date();
    };
    try {
      const resume: Record<string, string> = this.last === null ? {} : { 'last-event-id': this.last };
      const response = await fetch('/api/v1/events', {
        headers: { ...session.headers(), ...resume, accept: 'text/event-stream' },
        signal: controller.signal,
      });
      if (response.status === 401) session.refused = true;
      if (!response.ok || response.body === null) return;
      alive();
      // Without a number to resume from, something may have happened meanwhile.
      if (this.last === null) this.reset();
      this.isReady = true;
      this.state = 'live';
      this.returns++;
      const parser = new EventParser();
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        alive();
        for (const event of parser.push(value)) {
          this.last = event.id ?? this.last;
          if (event.event === 'gap') this.reset();
          else this.tell(JSON.parse(event.data) as Event);
        }
      }
    } finally {
      clearTimeout(watchdog);
      controller.abort();
    }
  }

  /// Whoever is refused signs in first, and then there is a stream.
  private mayAsk() {
    if (!session.refused) this.isReady = true;
  }

  private tell(event: Event) {
    for (const listener of this.listeners) listener.event(event);
  }

  private reset() {
    for (const listener of this.listeners) listener.reset();
  }

  private pause(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

export const live = new Live();
