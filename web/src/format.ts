// Numbers and times in words.

export type Summary = { mean: number; std: number; n: number };

/// `83.12`.
export function accuracy(value: number): string {
  return value.toFixed(2);
}

/// `+0.23`, `−1.20`, `0.00`: a sign for what doesn't round to nothing.
export function signed(value: number): string {
  const digits = Math.abs(value).toFixed(2);
  if (Number(digits) === 0) return digits;
  return (value < 0 ? '−' : '+') + digits;
}

export function count(value: number): string {
  return value.toLocaleString('en-GB').replaceAll(',', '\u202f');
}

/// `42 s`, `3 min 5 s`, `2 h 10 min`, `3 d 4 h`: two units at most.
export function duration(milliseconds: number): string {
  let seconds = Math.max(0, Math.round(milliseconds / 1000));
  const parts: string[] = [];
  for (const [unit, length] of [['d', 86_400], ['h', 3600], ['min', 60], ['s', 1]] as const) {
    const whole = Math.floor(seconds / length);
    seconds -= whole * length;
    if (whole > 0) parts.push(`${whole} ${unit}`);
    else if (parts.length > 0) break;
    if (parts.length === 2) break;
  }
  return parts.length > 0 ? parts.join(' ') : '0 s';
}

/// Device time as papers state costs: `1.5 GPU h` is what the label around it says.
export function hours(milliseconds: number): string {
  const value = milliseconds / 3_600_000;
  return `${value.toFixed(value < 1 ? 2 : 1)} h`;
}

/// `1.4 GiB`.
export function mebibytes(value: number): string {
  return value < 1024 ? `${value} MiB` : `${(value / 1024).toFixed(1)} GiB`;
}

/// A point in time, for the reader's clock: `14:03:09` today, `26 Nov 14:03` otherwise.
export function time(at: string | Date, now = new Date()): string {
  const date = new Date(at);
  const today = date.toDateString() === now.toDateString();
  return today
    ? date.toLocaleTimeString('en-GB')
    : date.toLocaleString('en-GB', { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' });
}

/// `3 min ago`, `in 2 h 10 min`.
export function relative(at: string | Date, now = new Date()): string {
  const away = new Date(at).getTime() - now.getTime();
  if (Math.abs(away) < 1000) return 'now';
  return away > 0 ? `in ${duration(away)}` : `${duration(-away)} ago`;
}
