import { describe, expect, it } from 'vitest';

import { Rows } from './wrap';

describe('rows', () => {
  it('are the lines', () => {
    const rows = new Rows(['a', '', 'x'.repeat(5000)], null);
    expect(rows.grow()).toBe(3);
    expect(rows.at(1)).toEqual({ line: 1, part: 0, text: '' });
    expect(rows.at(2).text).toHaveLength(4002);
    expect(rows.of(2)).toBe(2);
  });

  it('are parts of wrapped lines', () => {
    const rows = new Rows(['abcdefg', '', 'xyz', '1234'], 3);
    expect(rows.grow()).toBe(7);
    const texts = Array.from({ length: 7 }, (_, row) => rows.at(row));
    expect(texts.map((row) => row.text)).toEqual(['abc', 'def', 'g', '', 'xyz', '123', '4']);
    expect(texts.map((row) => `${row.line}.${row.part}`)).toEqual(['0.0', '0.1', '0.2', '1.0', '2.0', '3.0', '3.1']);
    expect([0, 1, 2, 3].map((line) => rows.of(line))).toEqual([0, 3, 4, 5]);
  });

  it('take in what comes', () => {
    const lines = ['abcdef'];
    const rows = new Rows(lines, 4);
    expect(rows.grow()).toBe(2);
    lines.push('gh');
    expect(rows.grow()).toBe(3);
    expect(rows.at(2)).toEqual({ line: 1, part: 0, text: 'gh' });
  });
});
