// What experiments have cost and how long they still take: asked one after the other, and only for those on the screen.

import { type ExperimentSummary, type Forecast, forecast } from './api/questions';
import { BUSY, due } from './experiments/due';

export class Forecasts {
  /// `null` where the coordinator doesn't know.
  known = $state.raw(new Map<number, Forecast | null>());
  private asked = new Map<number, { at: number; counts: string }>();
  private busy = false;

  /// Belongs to the component in whose set-up it is made.
  constructor(private shown: () => ExperimentSummary[]) {
    $effect(() => {
      shown();
      void this.ask();
    });
    $effect(() => {
      const timer = setInterval(() => void this.ask(), BUSY);
      return () => {
        clearInterval(timer);
        this.shown = () => [];
      };
    });
  }

  private async ask() {
    if (this.busy || document.hidden) return;
    this.busy = true;
    for (let next = this.next(); next !== undefined; next = this.next()) {
      this.asked.set(next.id, { at: Date.now(), counts: JSON.stringify(next.counts) });
      // What can't be answered now is asked again when it is due.
      const answer = await forecast(next.id).catch(() => undefined);
      if (answer !== undefined) this.known = new Map(this.known).set(next.id, answer);
    }
    this.busy = false;
  }

  private next(): ExperimentSummary | undefined {
    const now = Date.now();
    return this.shown().find((experiment) => due(experiment, this.asked.get(experiment.id), now));
  }
}
