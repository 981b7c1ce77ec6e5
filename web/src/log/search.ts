// Words in a log.

/// `null` for nothing to look for. Case doesn't matter, and no character is special.
export function pattern(words: string): RegExp | null {
  return words === '' ? null : new RegExp(`(${words.replaceAll(/[\\^$.*+?()[\]{}|/-]/g, '\\$&')})`, 'i');
}

/// Adds the lines from `from` on that match to those found before.
export function find(lines: readonly string[], what: RegExp, from: number, found: number[]) {
  for (let index = from; index < lines.length; index++) {
    if (what.test(lines[index] ?? '')) found.push(index);
  }
}

/// The text in pieces, of which every second one matches.
export function pieces(text: string, what: RegExp | null): string[] {
  return what === null ? [text] : text.split(new RegExp(what.source, 'gi'));
}

/// Which of the found lines comes after (`1`) or before (`-1`) a line, round the end.
export function step(found: readonly number[], line: number, by: 1 | -1): number | null {
  if (found.length === 0) return null;
  if (by === 1) return found.find((index) => index > line) ?? found[0] ?? null;
  return found.findLast((index) => index < line) ?? found.at(-1) ?? null;
}
