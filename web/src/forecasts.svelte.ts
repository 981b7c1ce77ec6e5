// What experiments have cost and how long they still take: asked one after the other, and only for those on the screen.

import { type ExperimentSummary, type Forecast, forecast } from './api/questions';
import { type Asked, BUSY, longestAgo } from './experiments/due';

export class Forecasts {
  /// `null` where the coordinator doesn't know.
  known = $state.raw(new Map<number, Forecast | null>());
  private asked = new Map<number, Asked>();
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

  /// Asks for those of which nothing is known yet, and anew for one that is due: however many there are, the coordinator is asked
  /// once each time.
  private async ask() {
    if (this.busy || document.hidden) return;
    this.busy = true;
    for (let next = this.unasked(); next !== undefined; next = this.unasked()) await this.about(next);
    const next = longestAgo(this.shown(), this.asked, Date.now());
    if (next !== undefined) await this.about(next);
    this.busy = false;
  }

  private async about({ id, counts }: ExperimentSummary) {
    this.asked.set(id, { at: Date.now(), counts: JSON.stringify(counts) });
    // What can't be answered now is asked again when it is due.
    const answer = await forecast(id).catch(() => undefined);
    if (answer !== undefined) this.known = new Map(this.known).set(id, answer);
  }

  private unasked(): ExperimentSummary | undefined {
    return this.shown().find(({ id }) => !this.asked.has(id));
  }
}
