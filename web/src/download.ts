// Files for the reader's disk. A link can't send a token, so that what it would point to is fetched.

import { Failure } from './api/client';
import { session } from './session.svelte';

/// Fetches what is at `path` and hands it to the browser as a file.
export async function download(path: string, name: string) {
  const response = await fetch(path, { headers: session.headers() }).catch(() => {
    throw new Failure('The coordinator does not answer.', null);
  });
  if (response.status === 401) session.refused = true;
  if (!response.ok) {
    const problem: unknown = await response.json().catch(() => null);
    const detail = typeof problem === 'object' && problem !== null && 'detail' in problem ? String(problem.detail) : null;
    throw new Failure(detail ?? `The coordinator answered ${response.status}.`, response.status);
  }
  save(await response.blob(), name);
}

export function save(content: Blob, name: string) {
  const address = URL.createObjectURL(content);
  const link = document.createElement('a');
  link.href = address;
  link.download = name;
  link.click();
  // The browser has begun to read it by then.
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/// A file name out of a path or a title.
export function fileName(text: string): string {
  const last = text.split('/').pop() ?? text;
  return last.replaceAll(/[^\w.+-]+/g, '-').slice(-120) || 'file';
}
