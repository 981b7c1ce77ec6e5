// Draws the part of a matrix that can be seen.

import { methodName } from '../names.svelte';
import { STATES, type State } from '../states';
import { MARKS, paint } from './marks';
import type { Model } from './model.svelte';

export const CELL = 18;
const MARK = 12;
export const HEAD = 40;

export type Scene = {
  model: Model;
  width: number;
  height: number;
  left: number;
  top: number;
  names: Names;
  /// States that stand out; all if there are none.
  states: readonly State[];
  focused: number | null;
  isFocusShown: boolean;
  colours: Record<string, string>;
};

/// How wide the rows' names are.
export type Names = {
  /// The method's.
  method: number;
  /// All of it.
  all: number;
};

/// The cell at a point of the canvas; `null` beside them.
export function cellAt(scene: Pick<Scene, 'model' | 'left' | 'top' | 'names'>, x: number, y: number): number | null {
  const { columns, rows } = scene.model.layout;
  if (x < scene.names.all || y < HEAD) return null;
  const column = Math.floor((x - scene.names.all + scene.left) / CELL);
  const row = Math.floor((y - HEAD + scene.top) / CELL);
  return column < columns.length && row < rows.length ? row * columns.length + column : null;
}

export function draw(context: CanvasRenderingContext2D, scene: Scene) {
  const { model, width, height, left, top, colours } = scene;
  const names = scene.names.all;
  const { columns, rows, cells } = model.layout;
  context.clearRect(0, 0, width, height);
  const firstRow = Math.floor(top / CELL);
  const lastRow = Math.min(rows.length, Math.ceil((top + height - HEAD) / CELL));
  const firstColumn = Math.floor(left / CELL);
  const lastColumn = Math.min(columns.length, Math.ceil((left + width - names) / CELL));
  const xOf = (column: number) => names + column * CELL - left;
  const yOf = (row: number) => HEAD + row * CELL - top;

  context.save();
  context.beginPath();
  context.rect(names, HEAD, width - names, height - HEAD);
  context.clip();
  const paths = STATES.map(() => new Path2D());
  const chosen = new Path2D();
  const inset = (CELL - MARK) / 2;
  for (let row = firstRow; row < lastRow; row++) {
    for (let column = firstColumn; column < lastColumn; column++) {
      const place = cells[row * columns.length + column] ?? -1;
      const path = paths[model.states[place] ?? -1];
      const state = STATES[model.states[place] ?? -1];
      if (place < 0 || path === undefined || state === undefined) continue;
      MARKS[state].mark(path, xOf(column) + inset, yOf(row) + inset, MARK);
      if (model.selected.has(place)) chosen.rect(xOf(column) + 1, yOf(row) + 1, CELL - 2, CELL - 2);
    }
  }
  STATES.forEach((state, i) => {
    context.globalAlpha = scene.states.length === 0 || scene.states.includes(state) ? 1 : 0.15;
    paint(context, state, paths[i] ?? new Path2D(), colours);
  });
  context.globalAlpha = 1;
  context.strokeStyle = colours['accent'] ?? 'blue';
  context.lineWidth = 2;
  context.stroke(chosen);
  if (scene.focused !== null && scene.isFocusShown) {
    context.strokeStyle = colours['text'] ?? 'black';
    context.strokeRect(xOf(scene.focused % columns.length), yOf(Math.floor(scene.focused / columns.length)), CELL, CELL);
  }
  context.restore();

  drawNames(context, scene, firstRow, lastRow, yOf);
  drawSeeds(context, scene, firstColumn, lastColumn, xOf);
}

function drawNames(context: CanvasRenderingContext2D, scene: Scene, first: number, last: number, yOf: (row: number) => number) {
  const { model, height, names, colours } = scene;
  context.save();
  context.beginPath();
  context.rect(0, HEAD, names.all, height - HEAD);
  context.clip();
  context.textBaseline = 'middle';
  context.font = '12px system-ui, sans-serif';
  for (let row = first; row < last; row++) {
    const one = model.layout.rows[row];
    if (one === undefined) continue;
    const before = model.layout.rows[row - 1];
    const isNew = row === first || before?.method !== one.method;
    const y = yOf(row);
    if (before !== undefined && before.method !== one.method) {
      context.fillStyle = colours['line'] ?? 'gray';
      context.fillRect(0, y - 0.5, names.all, 1);
    }
    // A method is named once, and where its rows begin to be seen.
    if (isNew) {
      context.fillStyle = colours['text'] ?? 'black';
      context.fillText(fitted(context, methodName(one.method), names.method - 8), 0, Math.max(y, HEAD) + CELL / 2);
    }
    context.fillStyle = colours['quiet'] ?? 'gray';
    context.fillText(fitted(context, one.name, names.all - names.method - 10), names.method, y + CELL / 2);
  }
  context.restore();
}

function drawSeeds(context: CanvasRenderingContext2D, scene: Scene, first: number, last: number, xOf: (column: number) => number) {
  const { model, width, colours } = scene;
  const names = scene.names.all;
  const { columns } = model.layout;
  context.save();
  context.font = '11px system-ui, sans-serif';
  context.textAlign = 'right';
  context.fillStyle = colours['quiet'] ?? 'gray';
  context.fillText('seed', names - 8, 14);
  context.beginPath();
  context.rect(names, 0, width - names, HEAD);
  context.clip();
  context.textAlign = 'left';
  for (let column = first; column < last; column++) {
    const one = columns[column];
    if (one === undefined) continue;
    const x = xOf(column);
    if (columns[column - 1]?.seed !== one.seed) {
      context.fillStyle = colours['text'] ?? 'black';
      const together = columns[column + 1]?.seed === one.seed ? 2 : 1;
      context.fillText(String(one.seed), x + 3, 14, together * CELL - 5);
      context.fillStyle = colours['line'] ?? 'gray';
      context.fillRect(x, 4, 1, HEAD - 6);
    }
    context.fillStyle = colours['quiet'] ?? 'gray';
    context.fillText(one.stage === 'train' ? 'tr' : 'te', x + 4, 32);
  }
  context.restore();
}

/// The text, or as much of it as there is room for.
function fitted(context: CanvasRenderingContext2D, text: string, room: number): string {
  const wide = context.measureText(text).width;
  if (wide <= room) return text;
  return `${text.slice(0, Math.max(1, Math.floor((text.length * room) / wide) - 1))}…`;
}

/// How wide the rows' names are, but never more than so much.
export function widthOfNames(context: CanvasRenderingContext2D, model: Model, most: number): Names {
  context.font = '12px system-ui, sans-serif';
  const widest = (texts: Iterable<string>) => Math.max(0, ...[...new Set(texts)].map((text) => context.measureText(text).width));
  const method = widest(model.layout.rows.map((row) => methodName(row.method))) + 14;
  const all = Math.ceil(method + widest(model.layout.rows.map((row) => row.name)) + 12);
  return all <= most ? { method, all } : { method: (method * most) / all, all: most };
}
