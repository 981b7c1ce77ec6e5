// Questions whose answers the coordinator's document doesn't describe yet: an experiment's matrix, its forecast, and what is
// done with many jobs at once.

import { session } from '../session.svelte';
import type { State } from '../states';
import { Failure, type Schemas } from './client';

/// Method, data set, variant, stage and state are places in the lists.
export type MatrixJob = readonly [
  id: number,
  method: number,
  dataset: number,
  variant: number,
  shots: number,
  seed: number,
  stage: number,
  state: number,
];

export type Matrix = {
  methods: string[];
  datasets: string[];
  variants: string[];
  stages: Schemas['Stage'][];
  states: State[];
  jobs: MatrixJob[];
};

export type Forecast = {
  spent_ms: number;
  completed_last_hour: number;
  remaining_ms: number | null;
  /// Jobs that are left whose time can't be told, and isn't in `remaining_ms`.
  unknown: number;
  eta: string | null;
};

export function matrixOf(experiment: number): Promise<Matrix> {
  return json(`/api/v1/experiments/${experiment}/matrix`);
}

/// `null` from a coordinator that makes none.
export async function forecastOf(experiment: number): Promise<Forecast | null> {
  try {
    return await json<Forecast>(`/api/v1/experiments/${experiment}/forecast`);
  } catch (error) {
    if (error instanceof Failure && error.status === 404) return null;
    throw error;
  }
}

/// How many jobs are in another state now.
export async function changeJobs(what: 'cancel' | 'retry', jobs: readonly number[]): Promise<number> {
  const body = JSON.stringify({ jobs });
  const headers = { 'content-type': 'application/json' };
  const { changed } = await json<{ changed: number }>(`/api/v1/jobs/${what}`, { method: 'POST', body, headers });
  return changed;
}

async function json<T>(path: string, init: RequestInit & { headers?: Record<string, string> } = {}): Promise<T> {
  const headers = { ...session.headers(), accept: 'application/json', ...init.headers };
  const response = await fetch(path, { ...init, headers }).catch(() => {
    throw new Failure('The coordinator does not answer.', null);
  });
  if (response.status === 401) session.refused = true;
  const body: unknown = await response.json().catch(() => null);
  if (response.ok) return body as T;
  const problem = (body ?? {}) as Partial<Schemas['Problem']>;
  throw new Failure(problem.detail ?? `The coordinator answered ${response.status}.`, response.status, problem.errors);
}
