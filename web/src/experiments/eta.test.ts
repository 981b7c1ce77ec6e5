import { expect, it } from 'vitest';

import { etaWords } from './eta';

const now = new Date('2026-11-28T07:00:00Z');

it('says when, and never that it is now', () => {
  expect(etaWords({ eta: '2026-11-28T07:03:20Z' }, now)).toBe('in 3 min 20 s');
  for (const eta of ['2026-11-28T07:00:59Z', '2026-11-28T07:00:00Z', '2026-11-28T06:59:00Z']) {
    expect(etaWords({ eta }, now)).toBe('in less than a minute');
  }
});
it('says nothing that is not known', () => {
  expect(etaWords({ eta: null }, now)).toBeNull();
});
