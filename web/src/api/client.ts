// Questions to the coordinator, by the types of its own document (`schema.ts`, made by `npm run types`).

import createClient from 'openapi-fetch';

import { session } from '../session.svelte';
import type { components, paths } from './schema';

export type Schemas = components['schemas'];

/// What went wrong, in words for a person.
export class Failure extends Error {
  constructor(
    message: string,
    readonly status: number | null,
    readonly fields: Schemas['FieldError'][] = [],
    /// The kind of problem: `/problems/shared-jobs`.
    readonly kind: string | null = null,
  ) {
    super(message);
  }
}

export const api = createClient<paths>({ baseUrl: location.origin });

api.use({
  onRequest({ request }) {
    for (const [name, value] of Object.entries(session.headers())) request.headers.set(name, value);
    return request;
  },
  onResponse({ response }) {
    if (response.status === 401) session.refused = true;
  },
  onError() {
    return new Failure('The coordinator does not answer.', null);
  },
});

type Answer<T> = { data?: T; error?: unknown; response: Response };

/// The answer, or a [`Failure`] that says what the coordinator said.
export async function ask<T>(question: Promise<Answer<T>>): Promise<T> {
  const { data, error, response } = await question;
  if (response.ok) return data as T;
  throw failure(error, response.status);
}

function failure(error: unknown, status: number): Failure {
  const problem = typeof error === 'object' && error !== null ? (error as Partial<Schemas['Problem']>) : {};
  return new Failure(problem.detail ?? problem.title ?? `The coordinator answered ${status}.`, status, problem.errors, problem.type);
}

/// The body of an answer that isn't JSON: a table to copy, a log.
export async function text(path: string, accept = '*/*'): Promise<string> {
  const response = await fetch(path, { headers: { ...session.headers(), accept } }).catch(() => {
    throw new Failure('The coordinator does not answer.', null);
  });
  if (response.status === 401) session.refused = true;
  if (!response.ok) throw failure(await response.json().catch(() => null), response.status);
  return response.text();
}
