// What workers were at over time, as shares of what they have.

/// Each value as a share of the whole, between nothing and all; `null` stays unknown.
export function shares(values: readonly (number | null)[], whole: number): (number | null)[] {
  return values.map((value) => (value === null ? null : Math.min(Math.max(value / Math.max(whole, 1), 0), 1)));
}

/// The mean of what is known.
export function average(values: readonly (number | null)[]): number | null {
  const known = values.filter((value) => value !== null);
  return known.length === 0 ? null : known.reduce((sum, value) => sum + value, 0) / known.length;
}

/// The last that is known.
export function latest(values: readonly (number | null)[]): number | null {
  return values.findLast((value) => value !== null) ?? null;
}
