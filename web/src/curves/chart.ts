// A chart of uPlot's: its axes, its series, and a name at the end of each line, so that colours aren't all that tells them apart.

import uPlot from 'uplot';

import { brief, figure, short, spread } from './groups';

export const HUES = ['series-1', 'series-2', 'series-3', 'series-4', 'series-5', 'series-6', 'series-7'] as const;

export type Look = {
  width: number;
  height: number;
  names: readonly string[];
  /// The job that is laid beside, by dashed lines.
  beside: number | null;
  colours: Record<string, string>;
};

const FONT = '11px system-ui, sans-serif';
const LABEL_GAP = 13;

export function options({ width, height, names, beside, colours }: Look): uPlot.Options {
  const hue = (i: number) => colours[HUES[i % HUES.length] ?? ''] ?? 'gray';
  const axis: uPlot.Axis = {
    stroke: colours['quiet'] ?? 'gray',
    font: FONT,
    grid: { stroke: colours['line'] ?? 'gray', width: 1 },
    ticks: { stroke: colours['line'] ?? 'gray', width: 1, size: 4 },
  };
  const lines = names.map((name, i): uPlot.Series => ({
    label: short(name),
    stroke: hue(i),
    width: name === 'loss' ? 2.25 : 1.5,
    spanGaps: true,
    points: { show: false },
    value: (_, value) => figure(value),
  }));
  const dashed = beside === null ? [] : names.map((name, i): uPlot.Series => ({
    label: `${short(name)}, job ${beside}`,
    stroke: hue(i),
    width: 1.5,
    dash: [6, 4],
    spanGaps: true,
    points: { show: false },
    value: (_, value) => figure(value),
  }));
  const isNarrow = width < 420;
  return {
    width,
    height,
    padding: [8, isNarrow ? 8 : labelWidth(names), 0, 0],
    scales: { x: { time: false } },
    axes: [
      { ...axis, size: 32, values: (_, ticks) => ticks.map(String) },
      { ...axis, size: 52, values: (_, ticks) => ticks.map((tick) => (tick === null ? '' : figure(tick))) },
    ],
    series: [{ label: 'step', value: (_, value) => (value === null ? '–' : String(value)) }, ...lines, ...dashed],
    cursor: { points: { size: 6 }, drag: { x: true, y: false } },
    hooks: isNarrow ? {} : { draw: [(chart) => drawNames(chart, names, hue)] },
  };
}

function labelWidth(names: readonly string[]): number {
  const context = document.createElement('canvas').getContext('2d');
  if (context === null) return 80;
  context.font = FONT;
  return Math.max(...names.map((name) => context.measureText(brief(name)).width)) + 14;
}

function drawNames(chart: uPlot, names: readonly string[], hue: (i: number) => string) {
  const ratio = devicePixelRatio;
  const { left, top, width, height } = chart.bbox;
  const last = names.map((_, i) => {
    const values = chart.series[i + 1]?.show === false ? [] : Array.from(chart.data[i + 1] ?? []);
    const value = values.findLast((one) => typeof one === 'number');
    return typeof value === 'number' ? chart.valToPos(value, 'y', true) : null;
  });
  const drawn = last.flatMap((y, i) => (y === null ? [] : [{ i, y }]));
  const places = spread(drawn.map(({ y }) => Math.min(Math.max(y, top), top + height)), LABEL_GAP * ratio, top + height);
  const { ctx } = chart;
  ctx.save();
  ctx.font = `${11 * ratio}px system-ui, sans-serif`;
  ctx.textBaseline = 'middle';
  ctx.textAlign = 'left';
  drawn.forEach(({ i }, k) => {
    ctx.fillStyle = hue(i);
    ctx.fillText(brief(names[i] ?? ''), left + width + 6 * ratio, places[k] ?? 0);
  });
  ctx.restore();
}
