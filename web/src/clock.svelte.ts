// The time, for what is told from now: ticks only while someone looks.

import { createSubscriber } from 'svelte/reactivity';

const subscribe = createSubscriber((update) => {
  const timer = setInterval(update, 1000);
  return () => clearInterval(timer);
});

export function now(): Date {
  subscribe();
  return new Date();
}
