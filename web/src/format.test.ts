import { describe, expect, it } from 'vitest';

import { count, duration, hours, mebibytes, relative, signed, time } from './format';

describe('numbers', () => {
  it('have their sign, unless they round to nothing', () => {
    expect([0.234, -1, 0.004, -0.004, 10].map(signed)).toEqual(['+0.23', '−1.00', '0.00', '0.00', '+10.00']);
  });
  it('are grouped', () => {
    expect(count(1234567)).toBe('1\u202f234\u202f567');
  });
  it('of memory and device time have their unit', () => {
    expect([mebibytes(512), mebibytes(1536)]).toEqual(['512 MiB', '1.5 GiB']);
    expect([hours(36_000), hours(5_400_000)]).toEqual(['0.01 h', '1.5 h']);
  });
});

describe('times', () => {
  it('have two units at most, next to each other', () => {
    const seconds = [0, 42, 185, 7800, 7201, 273_600, 86_400];
    expect(seconds.map((s) => duration(s * 1000))).toEqual(['0 s', '42 s', '3 min 5 s', '2 h 10 min', '2 h', '3 d 4 h', '1 d']);
  });
  it('are told from now', () => {
    const now = new Date('2026-11-26T12:00:00Z');
    expect(relative('2026-11-26T11:57:00Z', now)).toBe('3 min ago');
    expect(relative('2026-11-26T14:10:00Z', now)).toBe('in 2 h 10 min');
    expect(relative('2026-11-26T12:00:00.400Z', now)).toBe('now');
  });
  it('name the day unless it is today', () => {
    const now = new Date(2026, 10, 26, 12);
    expect(time(new Date(2026, 10, 26, 9, 5, 7), now)).toBe('09:05:07');
    expect(time(new Date(2026, 10, 24, 9, 5, 7), now)).toBe('24 Nov, 09:05');
  });
});
