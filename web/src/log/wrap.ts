// Lines in rows of equal height. A row is a line, or, where lines are wrapped, as much of it as is so wide.

/// More of a line than this is not drawn in one row: a browser would choke on it.
const LONGEST = 4000;

export class Rows {
  /// The first row of each line, and after them the number of all rows; `null` while each line is a row.
  private first: number[] | null;

  constructor(
    private lines: readonly string[],
    private columns: number | null,
  ) {
    this.first = columns === null ? null : [0];
  }

  /// Takes in the lines that came, and says how many rows there are now.
  grow(): number {
    if (this.first === null || this.columns === null) return this.lines.length;
    for (let line = this.first.length - 1; line < this.lines.length; line++) {
      const rows = Math.max(1, Math.ceil((this.lines[line] ?? '').length / this.columns));
      this.first.push((this.first[line] ?? 0) + rows);
    }
    return this.first.at(-1) ?? 0;
  }

  /// The line that a row is of, which of its parts, and what it says.
  at(row: number): { line: number; part: number; text: string } {
    if (this.first === null || this.columns === null) {
      const text = this.lines[row] ?? '';
      return { line: row, part: 0, text: text.length > LONGEST ? `${text.slice(0, LONGEST)} …` : text };
    }
    const line = this.lineOf(row, this.first);
    const part = row - (this.first[line] ?? 0);
    return { line, part, text: (this.lines[line] ?? '').slice(part * this.columns, (part + 1) * this.columns) };
  }

  /// A line's first row.
  of(line: number): number {
    return this.first?.[line] ?? line;
  }

  private lineOf(row: number, first: number[]): number {
    let [low, high] = [0, first.length - 1];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if ((first[middle] ?? 0) <= row) low = middle;
      else high = middle;
    }
    return low;
  }
}
