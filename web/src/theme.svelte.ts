// Colours for what is drawn on a canvas, where style sheets don't reach.

import { createSubscriber } from 'svelte/reactivity';

const subscribe = createSubscriber((update) => {
  const observer = new MutationObserver(update);
  observer.observe(document.documentElement, { attributes: true, attributeFilter: ['data-theme'] });
  const system = matchMedia('(prefers-color-scheme: dark)');
  system.addEventListener('change', update);
  return () => {
    observer.disconnect();
    system.removeEventListener('change', update);
  };
});

/// What a variable of the style sheet is within `place`: asked in an effect, which runs again when the theme changes.
export function colours(place: Element, names: readonly string[]): Record<string, string> {
  subscribe();
  // The variable's text may be `light-dark(…)`; a property that has its value is a colour.
  const probe = place.appendChild(document.createElement('span'));
  const found = names.map((name) => {
    probe.style.color = `var(--${name})`;
    return [name, getComputedStyle(probe).color] as const;
  });
  probe.remove();
  return Object.fromEntries(found);
}
