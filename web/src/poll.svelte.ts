// What no event tells: progress within a job. Asked for as long as there is something to see, and someone to see it.

/// Belongs to the component in whose set-up it is called. Calls `ask` every `milliseconds` while `wanted`.
export function poll(wanted: () => boolean, milliseconds: number, ask: () => void) {
  $effect(() => {
    if (!wanted()) return;
    const timer = setInterval(() => {
      if (!document.hidden) ask();
    }, milliseconds);
    return () => clearInterval(timer);
  });
}
