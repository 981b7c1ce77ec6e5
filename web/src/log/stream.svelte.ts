// A job's log as it is printed: one stream, which comes back by itself where it broke off.

import type { Schemas } from '../api/client';
import { session } from '../session.svelte';
import { EventParser } from '../sse';

type State = 'waiting' | 'live' | 'lost' | 'ended' | 'refused';

/// The coordinator says something every 15 s; who is silent for so long in ms is gone.
const SILENCE = 40_000;
const PAUSES = [500, 1000, 2000, 5000, 10_000];

export class LogStream {
  /// The lines themselves are no reactive state: there may be very many. `count` says when there are more.
  lines: string[] = [];
  count = $state(0);
  state = $state<State>('waiting');
  /// Why there is nothing, in the coordinator's words.
  refusal = $state('');
  attempt = $state<number | null>(null);
  private latest: number | null = null;
  private last: string | null = null;
  private controller = new AbortController();
  private isClosed = false;
  private frame = 0;

  /// Of the attempt that is named, or of the latest: then the next one's log follows when there is one.
  constructor(
    private job: number,
    private named: number | null = null,
  ) {}

  /// Follows until the log ends, or [`LogStream::close`].
  async run() {
    for (let failures = 0; !this.isClosed && this.state !== 'ended' && this.state !== 'refused'; failures++) {
      const before = this.last;
      await this.follow().catch(() => {});
      if (this.isDone()) break;
      this.state = 'lost';
      if (this.last !== before) failures = 0;
      await new Promise((resolve) => setTimeout(resolve, PAUSES[Math.min(failures, PAUSES.length - 1)]));
    }
    this.restart();
  }

  /// What the job's latest attempt is. A log ends with its attempt, and that of the next begins anew.
  expect(attempt: number | null) {
    this.latest = attempt;
    this.restart();
  }

  private restart() {
    if (this.isClosed || this.named !== null || this.state !== 'ended' || this.latest === null || this.latest === this.attempt) return;
    this.lines = [];
    this.last = null;
    this.attempt = null;
    this.state = 'waiting';
    this.tell();
    void this.run();
  }

  close() {
    this.isClosed = true;
    this.controller.abort();
    cancelAnimationFrame(this.frame);
  }

  private isDone(): boolean {
    return this.isClosed || this.state === 'ended' || this.state === 'refused';
  }

  private async follow() {
    const controller = new AbortController();
    this.controller = controller;
    let watchdog = setTimeout(() => controller.abort(), SILENCE);
    try {
      const resume: Record<string, string> = this.last === null ? {} : { 'last-event-id': this.last };
      const of = this.named === null ? '' : `&attempt=${this.named}`;
      const response = await fetch(`/api/v1/jobs/${this.job}/log?follow=true${of}`, {
        headers: { ...session.headers(), ...resume, accept: 'text/event-stream' },
        signal: controller.signal,
      });
      if (response.status === 401) session.refused = true;
      if (!response.ok || response.body === null) return await this.refused(response);
      this.state = 'live';
      const parser = new EventParser();
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        clearTimeout(watchdog);
        watchdog = setTimeout(() => controller.abort(), SILENCE);
        for (const event of parser.push(value)) {
          if (event.event === 'end') {
            // An attempt that printed nothing is known only by its end.
            this.attempt ??= (JSON.parse(event.data) as Schemas['LogEnd']).attempt ?? null;
            this.state = 'ended';
          } else this.add(JSON.parse(event.data) as Schemas['LogLine'], event.id);
        }
        if (this.state === 'ended') return;
      }
    } finally {
      clearTimeout(watchdog);
      controller.abort();
    }
  }

  /// What the coordinator may take later is tried again.
  private async refused(response: Response) {
    if (response.status >= 500 || response.status === 429 || response.status === 401) return;
    const problem = (await response.json().catch(() => null)) as Partial<Schemas['Problem']> | null;
    this.refusal = problem?.detail ?? `The coordinator answered ${response.status}.`;
    this.state = 'refused';
  }

  private add(line: Schemas['LogLine'], id: string | null) {
    this.attempt ??= line.attempt;
    this.last = id ?? this.last;
    this.lines.push(line.text);
    this.tell();
  }

  /// However fast lines come, the page is told once a frame.
  private tell() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => {
      this.count = this.lines.length;
    });
  }
}
