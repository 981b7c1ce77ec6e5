// An experiment as a file for `promptfield submit`.

type Table = Record<string, unknown>;

function isTable(value: unknown): value is Table {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function key(name: string): string {
  return /^[A-Za-z0-9_-]+$/.test(name) ? name : text(name);
}

/// JSON's escapes are TOML's; of what must be escaped, JSON leaves one as it is.
function text(value: string): string {
  return JSON.stringify(value).replaceAll('\u007f', '\\u007f');
}

function inline(value: unknown): string {
  if (typeof value === 'string') return text(value);
  if (Array.isArray(value)) return `[${value.map(inline).join(', ')}]`;
  if (isTable(value)) return `{ ${Object.entries(value).map(([name, inner]) => `${key(name)} = ${inline(inner)}`).join(', ')} }`;
  return String(value);
}

/// The values of a table first, then the tables in it; those of a value, such as a schedule, stay in its line.
function lines(table: Table, path: string[], inLine: string[]): string[] {
  const entries = Object.entries(table).filter(([, value]) => value !== null && value !== undefined);
  const below = entries.filter(([name, value]) => isTable(value) && !inLine.includes(name));
  const here = entries.filter((entry) => !below.includes(entry)).map(([name, value]) => `${key(name)} = ${inline(value)}`);
  const heading = path.length > 0 && here.length > 0 ? ['', `[${path.map(key).join('.')}]`] : [];
  return [...heading, ...here, ...below.flatMap(([name, value]) => lines(value as Table, [...path, name], inLine))];
}

export function toml(document: object): string {
  return `${lines(document as Table, [], ['eval']).join('\n')}\n`;
}
