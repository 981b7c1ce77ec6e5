// A real coordinator on a folder and a port of its own, and workers: real ones, or one that is played here.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

import type { components } from '../src/api/schema';

export type Schemas = components['schemas'];

const PROGRAM = process.env['PROMPTFIELD'] ?? resolve('../target/debug/promptfield');
const ROOT = resolve('..');
/// Workers of other versions are turned away.
const VERSION = (JSON.parse(readFileSync(join(ROOT, 'docs/openapi.json'), 'utf8')) as { info: { version: string } }).info.version;
/// Only played workers have that backbone: real ones find no weights.
const PLAYED = '"ViT-B/16" = "absent.safetensors"';

export class Coordinator {
  private process: ChildProcess | null = null;
  token: string | null = null;

  private constructor(
    readonly folder: string,
    readonly port: number,
  ) {}

  /// Starts one, with `more` in its settings' section `[coordinator]`.
  static async start({ more = '', tokens = false, backbones = PLAYED } = {}): Promise<Coordinator> {
    const coordinator = new Coordinator(mkdtempSync(join(tmpdir(), 'promptfield-')), await freePort());
    coordinator.settle({ more, tokens, backbones });
    if (tokens) coordinator.token = coordinator.tokenFor('admin');
    await coordinator.up();
    return coordinator;
  }

  /// `promptfield up`: a coordinator with two real workers, and the experiment that `cargo xtask demo` runs.
  static async demo(backbones = ''): Promise<Coordinator> {
    const coordinator = new Coordinator(mkdtempSync(join(tmpdir(), 'promptfield-')), await freePort());
    coordinator.settle({ backbones });
    copyFileSync(join(ROOT, 'configs/experiments/demo.toml'), join(coordinator.folder, 'demo.toml'));
    await coordinator.up(['up', 'demo.toml', '--workers', '2']);
    return coordinator;
  }

  private settle({ more = '', tokens = false, backbones = '' } = {}) {
    const settings = `
      [coordinator]
      listen = "127.0.0.1:${this.port}"
      state = "state"
      ${tokens ? 'tokens = "required"' : ''}
      ${more}
      [paths]
      data = "${ROOT}/demo"
      datasets = "${ROOT}/demo/datasets"
      output = "output"
      [backbones]
      clip-mini = "${ROOT}/demo/clip-mini.safetensors"
      ${backbones}
    `;
    writeFileSync(join(this.folder, 'promptfield.toml'), settings);
  }

  /// A new token, made before the coordinator runs.
  tokenFor(scope: string): string {
    const made = spawnSync(PROGRAM, ['token', 'create', `e2e ${scope}`, '--scope', scope], { cwd: this.folder, encoding: 'utf8' });
    const token = /pf_[0-9a-f]{64}/.exec(made.stdout)?.[0];
    if (token === undefined) throw new Error(`no token was made: ${made.stderr}`);
    return token;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /// Starts the process (again) and waits until it answers.
  async up(command = ['serve']) {
    this.process = this.spawn(command);
    const ready = async () => {
      if (this.process?.exitCode != null) throw new Error(`the coordinator ended with ${this.process.exitCode}`);
      return (await fetch(`${this.url}/api/v1/readyz`).catch(() => null))?.ok === true;
    };
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
    // What it started itself, it ends itself.
    await end(this.process, 'SIGTERM');
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 5 });
  }

  /// What the API says as text.
  async text(path: string): Promise<string> {
    const headers: Record<string, string> = this.token === null ? {} : { authorization: `Bearer ${this.token}` };
    const response = await fetch(`${this.url}/api/v1${path}`, { headers });
    if (!response.ok) throw new Error(`GET ${path}: ${response.status} ${await response.text()}`);
    return response.text();
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
    const description = { name, host: 'host', slots: 4, devices: ['cpu'], backbones: ['ViT-B/16'], version: VERSION, ...more };
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

  /// Prints lines from number `first` on.
  log(grant: Schemas['LeaseGrant'], first: number, lines: string[]): Promise<unknown> {
    return this.progress(grant, { log: { first_line: first, lines } });
  }

  /// With a manifest that says more than is usual; or with none, as of a folder that another tool completed.
  complete(grant: Schemas['LeaseGrant'], accuracy: number, more: Partial<Schemas['Manifest']> | null = {}): Promise<unknown> {
    const correct = Math.round(accuracy * 100);
    const result = { total: 10_000, correct, accuracy, error: 100 - accuracy, macro_f1: accuracy, calibration_error: 1.5 };
    const outcome = { result, adopted: more === null, manifest: more === null ? null : { ...manifest(grant), result, ...more } };
    return this.coordinator.ask('POST', `/leases/${grant.lease}/complete`, { token: grant.token, outcome });
  }

  fail(grant: Schemas['LeaseGrant'], reason: string): Promise<unknown> {
    const failure = { class: 'bug', reason };
    return this.coordinator.ask('POST', `/leases/${grant.lease}/fail`, { token: grant.token, failure });
  }

  /// Completes what can be leased until nothing can; gives back what it holds since it has no accuracy.
  async work(accuracy: (spec: Schemas['JobSpec']) => number | null): Promise<Schemas['LeaseGrant'][]> {
    const held: Schemas['LeaseGrant'][] = [];
    for (;;) {
      const grants = await this.lease(64);
      if (grants.length === 0) return held;
      for (const grant of grants) {
        const reached = accuracy(grant.spec);
        if (reached === null) held.push(grant);
        else await this.complete(grant, reached);
      }
    }
  }
}

/// What a played worker says of its folder. It has the weights that it is asked to have.
function manifest({ spec, hash, backbone_sha256 }: Schemas['LeaseGrant']): Omit<Schemas['Manifest'], 'result'> {
  return {
    format: 2,
    spec,
    spec_hash: hash,
    weights_sha256: backbone_sha256 ?? 'b'.repeat(64),
    split_sha256: 'c'.repeat(64),
    test_sha256: 'd'.repeat(64),
    code_version: VERSION,
    device: 'cpu',
    threads: 1,
    started_at: new Date().toISOString(),
    seconds: { prepare: 1, train: 60, test: 5 },
    files: {},
  };
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
