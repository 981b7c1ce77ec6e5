// An experiment as the TOML file that asks for it.

type Table = Record<string, unknown>;

/// Absent values are left out: TOML has no null.
export function toml(table: Table): string {
  return lines(table, []).join('\n').trim() + '\n';
}

function lines(table: Table, path: readonly string[]): string[] {
  const entries = Object.entries(table).filter(([, value]) => value !== null && value !== undefined);
  const plain = entries.filter(([, value]) => !isTable(value)).map(([key, value]) => `${name(key)} = ${written(value)}`);
  const tables = entries.flatMap(([key, value]): string[] => {
    if (!isTable(value) || isEmpty(value)) return [];
    const inner = [...path, key];
    const own = lines(value, inner);
    const hasOwn = Object.values(value).some((one) => one !== null && one !== undefined && !isTable(one));
    return hasOwn ? ['', `[${inner.map(name).join('.')}]`, ...own] : own;
  });
  return [...plain, ...tables];
}

function isTable(value: unknown): value is Table {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isEmpty(table: Table): boolean {
  return Object.values(table).every((value) => value === null || value === undefined || (isTable(value) && isEmpty(value)));
}

function name(key: string): string {
  return /^[\w-]+$/.test(key) ? key : quoted(key);
}

function written(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(written).join(', ')}]`;
  if (isTable(value)) return `{ ${Object.entries(value).map(([key, one]) => `${name(key)} = ${written(one)}`).join(', ')} }`;
  return typeof value === 'string' ? quoted(value) : String(value);
}

/// What JSON escapes, TOML escapes alike, but for the delete character.
function quoted(text: string): string {
  return JSON.stringify(text).replaceAll('\u007f', '\\u007f');
}
