// A real coordinator on a folder and a port of its own, and workers: real ones, or one that is played here.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

import type { components } from '../src/api/schema';

export type Schemas = components['schemas'];

const PROGRAM = process.env['PROMPTFIELD'] ?? resolve('../target/debug/promptfield');
const ROOT = resolve('..');

export class Coordinator {
  private process: ChildProcess | null = null;
  token: string | null = null;

  private constructor(
    readonly folder: string,
    readonly port: number,
  ) {}

  /// Starts one, with `more` in its settings' section `[coordinator]`.
  static async start({ more = '', tokens = false } = {}): Promise<Coordinator> {
    const coordinator = new Coordinator(mkdtempSync(join(tmpdir(), 'promptfield-')), await freePort());
    const settings = `
      [coordinator]
      listen = "127.0.0.1:${coordinator.port}"
      state = "state"
      ${tokens ? 'tokens = "required"' : ''}
      ${more}
      [paths]
      data = "${ROOT}/demo"
      datasets = "${ROOT}/demo/datasets"
      output = "output"
      [backbones]
      clip-mini = "${ROOT}/demo/clip-mini.safetensors"
    `;
    writeFileSync(join(coordinator.folder, 'promptfield.toml'), settings);
    if (tokens) {
      const made = spawnSync(PROGRAM, ['token', 'create', 'e2e', '--scope', 'admin'], { cwd: coordinator.folder, encoding: 'utf8' });
      coordinator.token = /pf_[0-9a-f]{64}/.exec(made.stdout)?.[0] ?? null;
    }
    await coordinator.up();
    return coordinator;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /// Starts the process (again) and waits until it answers.
  async up() {
    this.process = this.spawn(['serve']);
    const ready = async () => (await fetch(`${this.url}/api/v1/readyz`).catch(() => null))?.ok === true;
    await until('the coordinator is ready', ready);
  }

  /// A process of the program that ends with this coordinator.
  spawn(args: string[]): ChildProcess {
    return spawn(PROGRAM, args, { cwd: this.folder, stdio: 'ignore' });
  }

  /// Kills it, as a power cut would.
  async kill() {
    await end(this.process, 'SIGKILL');
    this.process = null;
  }

  async stop() {
    await this.kill();
    rmSync(this.folder, { recursive: true, force: true });
  }

  async ask<T>(method: string, path: string, body?: unknown): Promise<T> {
    const headers: Record<string, string> = { 'content-type': 'application/json' };
    if (this.token !== null) headers['authorization'] = `Bearer ${this.token}`;
    const response = await fetch(`${this.url}/api/v1${path}`, {
      method,
      headers,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return (text === '' ? null : JSON.parse(text)) as T;
  }

  submit(document: Record<string, unknown>): Promise<Schemas['SubmitResponse']> {
    return this.ask('POST', '/experiments', { backbone: 'ViT-B/16', seeds: [1], ...document });
  }

  /// A worker of which only its words are there.
  async worker(name: string, more: Record<string, unknown> = {}): Promise<PlayedWorker> {
    const description = { name, host: 'host', slots: 4, devices: ['cpu'], backbones: ['ViT-B/16'], version: '0.1.0', ...more };
    const { worker } = await this.ask<Schemas['Registered']>('POST', '/workers', description);
    return new PlayedWorker(this, worker);
  }
}

/// Says what a worker would say; computes nothing.
export class PlayedWorker {
  constructor(
    private coordinator: Coordinator,
    readonly id: number,
  ) {}

  async lease(slots: number): Promise<Schemas['LeaseGrant'][]> {
    const { leases } = await this.coordinator.ask<Schemas['LeaseResponse']>('POST', `/workers/${this.id}/lease`, { slots, wait_ms: 0 });
    return leases;
  }

  progress(grant: Schemas['LeaseGrant'], report: Partial<Schemas['ProgressReport']>): Promise<unknown> {
    return this.coordinator.ask('POST', `/leases/${grant.lease}/progress`, { token: grant.token, ...report });
  }

  complete(grant: Schemas['LeaseGrant'], accuracy: number): Promise<unknown> {
    const correct = Math.round(accuracy * 10);
    const result = { total: 1000, correct, accuracy, error: 100 - accuracy, macro_f1: accuracy, calibration_error: 1.5 };
    const outcome = { result, adopted: false, manifest: null };
    return this.coordinator.ask('POST', `/leases/${grant.lease}/complete`, { token: grant.token, outcome });
  }

  fail(grant: Schemas['LeaseGrant'], reason: string): Promise<unknown> {
    const failure = { class: 'bug', reason };
    return this.coordinator.ask('POST', `/leases/${grant.lease}/fail`, { token: grant.token, failure });
  }

  /// Completes what can be leased until nothing can.
  async work(accuracy: (spec: Schemas['JobSpec']) => number, most = Infinity): Promise<number> {
    let done = 0;
    while (done < most) {
      const grants = await this.lease(Math.min(64, most - done));
      if (grants.length === 0) break;
      for (const grant of grants) await this.complete(grant, accuracy(grant.spec));
      done += grants.length;
    }
    return done;
  }
}

export async function until(what: string, holds: () => Promise<boolean>, patience = 30_000) {
  const end = Date.now() + patience;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`waited in vain until ${what}`);
    await new Promise((again) => setTimeout(again, 50));
  }
}

export async function end(process: ChildProcess | null, signal: NodeJS.Signals) {
  if (process === null || process.exitCode !== null || process.signalCode !== null) return;
  const ended = new Promise((resolved) => process.once('exit', resolved));
  process.kill(signal);
  await ended;
}

function freePort(): Promise<number> {
  return new Promise((resolved) => {
    const server = createServer();
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolved(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });
}
