import { beforeEach, expect, it, vi } from 'vitest';

const store = { getItem: () => null };
vi.stubGlobal('sessionStorage', store);
vi.stubGlobal('localStorage', store);
vi.stubGlobal('requestAnimationFrame', (then: () => void) => (then(), 0));
vi.stubGlobal('cancelAnimationFrame', () => {});

const { LogStream } = await import('./stream.svelte');

const line = (attempt: number, at: number, text: string) => `id: ${attempt}-${at}\ndata: ${JSON.stringify({ attempt, line: at, text })}\n\n`;
const end = (attempt: number) => `event: end\ndata: ${JSON.stringify({ attempt, end: 'failed' })}\n\n`;

let asked: (string | null)[];
let answers: Response[];
beforeEach(() => {
  asked = [];
  answers = [];
  vi.stubGlobal('fetch', async (_: string, init: RequestInit) => {
    asked.push(new Headers(init.headers).get('last-event-id'));
    return answers.shift() ?? new Response(null, { status: 500 });
  });
});

it('goes on after the last line where it broke off', async () => {
  answers = [new Response(line(1, 0, 'a') + line(1, 1, 'b')), new Response(line(1, 2, 'c') + end(1))];
  const stream = new LogStream(7);
  await stream.run();
  expect(stream.lines).toEqual(['a', 'b', 'c']);
  expect(asked).toEqual([null, '1-1']);
  expect([stream.state, stream.count]).toEqual(['ended', 3]);
});

it('begins anew with the next attempt, whichever is told first', async () => {
  answers = [new Response(line(1, 0, 'a') + end(1)), new Response(line(2, 0, 'x') + end(2)), new Response(line(3, 0, 'y') + end(3))];
  const stream = new LogStream(7);
  stream.expect(1);
  await stream.run();
  expect(stream.lines).toEqual(['a']);
  stream.expect(2);
  await vi.waitFor(() => expect(stream.lines).toEqual(['x']));
  await vi.waitFor(() => expect(stream.state).toBe('ended'));
  stream.expect(3);
  await vi.waitFor(() => expect(stream.lines).toEqual(['y']));
  expect(asked).toEqual([null, null, null]);
});

it('asks once for the log of an attempt that printed nothing', async () => {
  answers = [new Response(end(3)), new Response(end(3)), new Response(end(3))];
  const stream = new LogStream(7);
  stream.expect(3);
  await stream.run();
  stream.expect(3);
  expect([stream.state, stream.attempt, asked.length]).toEqual(['ended', 3, 1]);
});

it('is of the attempt that is named, whichever comes after it', async () => {
  const addresses: string[] = [];
  vi.stubGlobal('fetch', async (address: string) => {
    addresses.push(address);
    return new Response(line(1, 0, 'a') + end(1));
  });
  const stream = new LogStream(7, 1);
  stream.expect(2);
  await stream.run();
  stream.expect(3);
  expect([stream.lines, stream.state]).toEqual([['a'], 'ended']);
  expect(addresses).toEqual(['/api/v1/jobs/7/log?follow=true&attempt=1']);
});

it('says why there is none, and does not ask again', async () => {
  answers = [Response.json({ detail: "the log isn't kept any more" }, { status: 410 })];
  const stream = new LogStream(7);
  await stream.run();
  expect([stream.state, stream.refusal]).toEqual(['refused', "the log isn't kept any more"]);
  expect(asked).toHaveLength(1);
});

it('is silent when it is closed', async () => {
  const stream = new LogStream(7);
  stream.close();
  await stream.run();
  expect(asked).toEqual([]);
});
