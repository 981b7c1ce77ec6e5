// An experiment's jobs and their states, kept up to date by events. A hundred thousand states are no reactive state: `version`
// says when there is something new to draw.

import type { Matrix } from '../api/matrix';
import type { Event } from '../live.svelte';
import { type Counts, STATES, type State } from '../states';
import { type Layout, layOut } from './layout';

export class Model {
  readonly layout: Layout;
  readonly states: Uint8Array;
  readonly selected = new Set<number>();
  /// Grows with everything that changes what is drawn.
  version = $state(0);
  counts = $state.raw<Counts>(none());
  selectedCount = $state(0);
  private frame = 0;

  constructor(readonly matrix: Matrix) {
    this.layout = layOut(matrix);
    // By the places in our own list: the coordinator's may be in another order.
    const own = matrix.states.map((state) => Math.max(0, STATES.indexOf(state)));
    this.states = Uint8Array.from(matrix.jobs, (job) => own[job[7]] ?? 0);
    this.counts = this.count();
  }

  /// Whether the event is about one of its jobs.
  take(event: Event): boolean {
    if (event.type !== 'job_changed') return false;
    const place = this.layout.placeOf.get(event.job);
    if (place === undefined) return false;
    this.states[place] = Math.max(0, STATES.indexOf(event.to));
    // Many events come at once; they are shown together.
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.counts = this.count();
      this.version++;
    });
    return true;
  }

  stateOf(place: number): State {
    return STATES[this.states[place] ?? 0] ?? 'queued';
  }

  idOf(place: number): number {
    return this.matrix.jobs[place]?.[0] ?? 0;
  }

  toggle(place: number) {
    if (!this.selected.delete(place)) this.selected.add(place);
    this.selectionChanged();
  }

  select(places: Iterable<number>, instead: boolean) {
    if (instead) this.selected.clear();
    for (const place of places) this.selected.add(place);
    this.selectionChanged();
  }

  /// Selects what is selected in an earlier state of the same matrix.
  selectAsIn(other: Model) {
    this.select([...other.selected].flatMap((place) => this.layout.placeOf.get(other.idOf(place)) ?? []), true);
  }

  /// The selected jobs that are in one of the states.
  chosen(states: readonly State[]): number[] {
    return [...this.selected].filter((place) => states.includes(this.stateOf(place))).map((place) => this.idOf(place));
  }

  /// The places of all jobs in one of the states.
  having(states: readonly State[]): number[] {
    const wanted = new Set(states.map((state) => STATES.indexOf(state)));
    const places: number[] = [];
    this.states.forEach((state, place) => {
      if (wanted.has(state)) places.push(place);
    });
    return places;
  }

  private selectionChanged() {
    this.selectedCount = this.selected.size;
    this.version++;
  }

  private count(): Counts {
    const counts = none();
    const numbers = new Array<number>(STATES.length).fill(0);
    for (const state of this.states) numbers[state] = (numbers[state] ?? 0) + 1;
    STATES.forEach((state, i) => (counts[state] = numbers[i] ?? 0));
    return counts;
  }
}

function none(): Counts {
  return { blocked: 0, queued: 0, leased: 0, running: 0, completed: 0, skipped: 0, failed: 0, cancelled: 0 };
}
