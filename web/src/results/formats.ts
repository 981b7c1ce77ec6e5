// The texts in which a table can be taken along.

import type { ResultsQuery } from '../api/questions';

export const FORMATS = {
  latex: { words: 'LaTeX', ending: 'tex' },
  markdown: { words: 'Markdown', ending: 'md' },
  csv: { words: 'CSV', ending: 'csv' },
} as const;

export type Format = keyof typeof FORMATS;

/// Where the coordinator has the table as text.
export function addressOf(experiment: number, format: Format, query: ResultsQuery): string {
  // Commas are as good as they are, and lists stay legible.
  const text = new URLSearchParams({ format, ...query }).toString().replaceAll('%2C', ',');
  return `/api/v1/experiments/${experiment}/results?${text}`;
}
