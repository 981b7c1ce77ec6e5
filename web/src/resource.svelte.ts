// Something that is asked for, shown, and asked for again when events say that it has changed.

import { untrack } from 'svelte';

import { Failure } from './api/client';
import { type Event, live } from './live.svelte';

/// However many events come, no question is asked more often, in ms.
const PACE = 1000;

export class Resource<T> {
  value = $state.raw<T | null>(null);
  error = $state.raw<Failure | null>(null);
  /// Whether the first answer is still to come, or that to another question than before.
  loading = $state(true);
  private asked = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private generation = 0;

  /// Belongs to the component in whose set-up it is made. `ask` may read reactive state: when that changes, what was shown is
  /// of something else, and is asked for anew. `concerns` says which events are reasons to ask again.
  constructor(
    private ask: () => Promise<T>,
    concerns: (event: Event) => boolean = () => false,
  ) {
    $effect(() => {
      if (!live.isReady) return;
      this.loading = true;
      void this.load();
    });
    // What nobody answered is asked again when someone may.
    $effect(() => {
      void live.returns;
      untrack(() => {
        if (this.error !== null && (this.error.status ?? 500) >= 500) this.refresh();
      });
    });
    $effect(() => {
      const stop = live.listen({
        event: (event) => {
          if (concerns(event)) this.refresh();
        },
        // What was never asked is asked as soon as it may be.
        reset: () => {
          if (this.asked > 0) this.refresh();
        },
      });
      return () => {
        stop();
        clearTimeout(this.timer);
        this.generation++;
      };
    });
  }

  /// Asks again soon; what is shown stays until the answer is there.
  refresh() {
    if (this.timer !== undefined) return;
    const wait = Math.max(0, this.asked + PACE - Date.now());
    this.timer = setTimeout(() => {
      this.timer = undefined;
      void this.load();
    }, wait);
  }

  /// Asks now.
  async load() {
    const generation = ++this.generation;
    this.asked = Date.now();
    const question = this.ask();
    try {
      const value = await question;
      if (generation !== this.generation) return;
      this.value = value;
      this.error = null;
    } catch (error) {
      if (generation !== this.generation) return;
      this.error = error instanceof Failure ? error : new Failure(String(error), null);
    }
    this.loading = false;
  }
}
