// Which rows of a long list are drawn: those that can be seen, and a few beside them.

export type Range = {
  first: number;
  /// The row after the last.
  end: number;
};

/// Rows that are drawn above and below what can be seen, so that a quick scroll shows no gap.
const SPARE = 8;

export function range(top: number, height: number, rowHeight: number, count: number): Range {
  const first = Math.floor(Math.max(0, top) / rowHeight) - SPARE;
  const end = Math.ceil((Math.max(0, top) + height) / rowHeight) + SPARE;
  // A list that became shorter may be scrolled beyond its end for a moment.
  const last = Math.min(count, Math.max(end, SPARE));
  return { first: Math.max(0, Math.min(first, last - 2 * SPARE)), end: Math.max(0, last) };
}

/// Where to scroll so that a row can be seen: as little as possible, or to the middle if it's far away.
export function reveal(index: number, rowHeight: number, top: number, height: number): number {
  const from = index * rowHeight;
  if (from >= top && from + rowHeight <= top + height) return top;
  if (from + rowHeight > top - rowHeight && from < top) return from;
  if (from < top + height + rowHeight && from >= top + height - rowHeight) return from + rowHeight - height;
  return Math.max(0, from - (height - rowHeight) / 2);
}
