// Experiments whose end the reader wants to be told of, by a notification of the browser. Asked for by a click, kept in this
// browser, and forgotten when it was told.

import { api, ask } from './api/client';
import { type Event, live } from './live.svelte';
import { done, open, total } from './states';

const KEY = 'promptfield.watched';

class Completion {
  readonly isPossible = 'Notification' in globalThis;
  /// Why there will be none.
  refusal = $state('');
  private watched = $state<number[]>(read());

  constructor() {
    live.listen({ event: (event) => this.take(event), reset: () => this.look() });
  }

  watches(experiment: number): boolean {
    return this.watched.includes(experiment);
  }

  async toggle(experiment: number) {
    this.refusal = '';
    if (this.watches(experiment)) return this.keep(this.watched.filter((one) => one !== experiment));
    const permission = await Notification.requestPermission();
    if (permission !== 'granted') this.refusal = 'The browser does not let this page notify you; its settings for this site decide.';
    else this.keep([...this.watched, experiment]);
  }

  private take(event: Event) {
    if (event.type === 'experiment_finished' && this.watches(event.experiment)) void this.check(event.experiment).catch(() => {});
  }

  /// One may have ended while nobody listened.
  private look() {
    for (const experiment of this.watched) void this.check(experiment).catch(() => {});
  }

  private async check(id: number) {
    const { name, counts } = await ask(api.GET('/api/v1/experiments/{id}', { params: { path: { id } } }));
    if (open(counts) > 0 || !this.watches(id)) return;
    this.keep(this.watched.filter((one) => one !== id));
    const failed = counts.failed > 0 ? `, ${counts.failed} failed` : '';
    const notification = new Notification(`${name} is complete`, {
      body: `${done(counts)} of ${total(counts)} jobs have their result${failed}.`,
      tag: `promptfield-experiment-${id}`,
    });
    notification.onclick = () => focus();
  }

  private keep(watched: number[]) {
    this.watched = watched;
    localStorage.setItem(KEY, JSON.stringify(watched));
  }
}

function read(): number[] {
  try {
    const kept: unknown = JSON.parse(localStorage.getItem(KEY) ?? '[]');
    return Array.isArray(kept) ? kept.filter((one): one is number => Number.isInteger(one)) : [];
  } catch {
    return [];
  }
}

export const completion = new Completion();
