// How a state is drawn: by its colour, and by a shape of its own for who doesn't tell colours apart.

import { STATES, type State } from '../states';

export type Mark = (path: Path2D, x: number, y: number, size: number) => void;

/// Shapes are filled, or drawn as lines. What is thin has a stronger colour than the state's own, which is for areas.
export const MARKS: Record<State, { mark: Mark; filled: boolean; colour?: string }> = {
  completed: { filled: true, mark: (path, x, y, size) => path.rect(x, y, size, size) },
  skipped: {
    filled: true,
    mark: (path, x, y, size) => {
      // A square without its middle, which is cut out by the even-odd rule.
      path.rect(x, y, size, size);
      path.rect(x + size / 3, y + size / 3, size / 3, size / 3);
    },
  },
  running: { filled: true, mark: (path, x, y, size) => disc(path, x, y, size, 0.5) },
  leased: { filled: false, colour: 'running', mark: (path, x, y, size) => disc(path, x, y, size, 0.4) },
  queued: { filled: false, colour: 'quiet', mark: (path, x, y, size) => path.rect(x + 1.5, y + 1.5, size - 3, size - 3) },
  blocked: { filled: true, colour: 'quiet', mark: (path, x, y, size) => disc(path, x, y, size, 0.2) },
  failed: {
    filled: true,
    mark: (path, x, y, size) => {
      const half = size / 2;
      path.moveTo(x + half, y - 0.5);
      path.lineTo(x + size + 0.5, y + half);
      path.lineTo(x + half, y + size + 0.5);
      path.lineTo(x - 0.5, y + half);
      path.closePath();
    },
  },
  cancelled: {
    filled: false,
    mark: (path, x, y, size) => {
      path.moveTo(x + 2, y + 2);
      path.lineTo(x + size - 2, y + size - 2);
      path.moveTo(x + size - 2, y + 2);
      path.lineTo(x + 2, y + size - 2);
    },
  },
};

function disc(path: Path2D, x: number, y: number, size: number, share: number) {
  const radius = size * share;
  path.moveTo(x + size / 2 + radius, y + size / 2);
  path.arc(x + size / 2, y + size / 2, radius, 0, 2 * Math.PI);
}

/// Draws all marks of a state at once.
export function paint(context: CanvasRenderingContext2D, state: State, path: Path2D, colours: Record<string, string>) {
  const colour = colours[MARKS[state].colour ?? state] ?? 'gray';
  if (MARKS[state].filled) {
    context.fillStyle = colour;
    context.fill(path, 'evenodd');
  } else {
    context.strokeStyle = colour;
    context.lineWidth = 1.75;
    context.stroke(path);
  }
}

export const COLOURS: readonly string[] = [...STATES, 'text', 'quiet', 'line', 'ground', 'raised', 'accent'];
