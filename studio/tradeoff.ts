/** Size against loss of several runs, with the line of those that no other beats in both. */

import * as Plot from '@observablehq/plot';
import type { ReportData } from '../src/report/schema.ts';
import { h } from './dom.ts';
import { logTicks } from './error.ts';
import { figure, tip } from './figure.ts';
import type { Estimate } from './format.ts';
import { bytes, inBrackets, significant, whole } from './format.ts';

export interface Run {
  /** Unlike every other's. */
  readonly label: string;
  readonly report: ReportData;
}

interface Point extends Estimate {
  readonly label: string;
  readonly bytes: number;
  /** No other is both smaller and better. */
  readonly best: boolean;
}

function points(runs: readonly Run[], estimate: (report: ReportData) => Estimate | undefined): Point[] {
  const all = runs.flatMap(({ label, report }) => {
    const found = estimate(report);
    return found && Number.isFinite(found.value) ? [{ label, bytes: report.compressed.bytes, ...found }] : [];
  });
  const beats = (a: (typeof all)[number], b: (typeof all)[number]) =>
    a.bytes <= b.bytes && a.value <= b.value && (a.bytes < b.bytes || a.value < b.value);
  return all
    .map((point) => ({ ...point, best: !all.some((other) => beats(other, point)) }))
    .sort((a, b) => a.bytes - b.bytes || a.value - b.value);
}

const divergence = ({ compressed: { kl } }: ReportData): Estimate | undefined =>
  kl && { value: kl.mean, low: kl.low, high: kl.high };
const ratio = ({ compressed }: ReportData): Estimate | undefined => compressed.perplexityRatio;

export function tradeOff(
  runs: readonly Run[],
  { comparable }: { readonly comparable: boolean },
): HTMLElement | undefined {
  const of = (estimate: Parameters<typeof points>[1]) => {
    const found = points(runs, estimate);
    // Of different models or texts none is better than another.
    return comparable ? found : found.map((point) => ({ ...point, best: false }));
  };
  const [byDivergence, byRatio] = [of(divergence), of(ratio)];
  if (byDivergence.length === 0) return undefined;
  const best = byDivergence.filter((point) => point.best).map(({ label }) => label);
  return figure({
    title: 'Bytes and loss',
    caption: comparable
      ? `Down and to the left is better; bars are 95% intervals. On the line: none of the others is both smaller and, by KL divergence, closer to the original (${best.join(', ')}).`
      : 'Each run against its own original and text: heights cannot be compared, so there is no line. Bars are 95% intervals.',
    views: [
      {
        label: 'KL divergence',
        description: `KL divergence by bytes of ${byDivergence.length} runs. On the Pareto line: ${best.join(', ') || 'none'}.`,
        draw: (width) => scatter(byDivergence, width, undefined),
      },
      ...(byRatio.length > 0
        ? [
            {
              label: 'Perplexity',
              description: `Perplexity over the original’s, by bytes, of ${byRatio.length} runs.`,
              draw: (width: number) => scatter(byRatio, width, 1),
              legend: () => h('p', { class: 'small' }, 'Perplexity over the original’s; 1 is as good.'),
            },
          ]
        : []),
    ],
    data: {
      head: ['Run', 'Bytes', 'KL', 'from', 'to', 'On the line'],
      rows: () =>
        byDivergence.map((point) => [
          point.label,
          whole(point.bytes),
          ...[point.value, point.low, point.high].map((value) =>
            value === undefined ? '' : significant(value),
          ),
          comparable ? (point.best ? 'yes' : 'no') : '–',
        ]),
    },
    wide: true,
  });
}

/** @param reference what the original has, where it has it on this axis */
function scatter(points: readonly Point[], width: number, reference: number | undefined): Plot.PlotOptions {
  const height = Math.max(280, Math.min(420, width * 0.5));
  const values = points
    .flatMap(({ low, high, value }) => [low ?? value, high ?? value, value])
    .concat(reference ?? []);
  const y = lossAxis(values, reference === undefined);
  const sizes = points.map((point) => point.bytes);
  const [smallest, largest] = [Math.min(...sizes), Math.max(...sizes)];
  const margin = Math.max(0.12 * (largest - smallest), 0.02 * largest);
  const title = (point: Point) =>
    `${point.label}\n${bytes(point.bytes)}\n${significant(point.value)}${inBrackets(point, significant)}`;
  return {
    width,
    height,
    marginLeft: 66,
    marginRight: 26,
    marginTop: 16,
    x: {
      domain: [Math.max(0, smallest - margin), largest + margin],
      tickFormat: bytes,
      label: null,
      ticks: Math.max(2, width / 160),
    },
    y,
    marks: [
      ...(reference === undefined
        ? []
        : [
            Plot.ruleY([reference], { stroke: 'var(--before)', strokeDasharray: '4 3' }),
            Plot.text(['original'], { y: [reference], frameAnchor: 'right', dy: 9, fill: 'var(--muted)' }),
          ]),
      Plot.line(
        points.filter(({ best }) => best),
        { x: 'bytes', y: 'value', stroke: 'var(--after)', strokeWidth: 1.5, strokeOpacity: 0.6 },
      ),
      ...labels(points, y, height - 46, ({ bytes: size }) => size <= (smallest + largest) / 2),
      Plot.ruleX(
        points.filter(({ low }) => low !== undefined),
        { x: 'bytes', y1: 'low', y2: 'high', stroke: 'var(--muted)', marker: 'tick' },
      ),
      Plot.dot(points, {
        x: 'bytes',
        y: 'value',
        r: 6,
        stroke: 'var(--after)',
        strokeWidth: 2,
        fill: ({ best }: Point) => (best ? 'var(--after)' : 'var(--surface)'),
      }),
      tip(points, { x: 'bytes', y: 'value', title }),
    ],
  };
}

interface LossAxis extends Plot.ScaleOptions {
  readonly type: 'log' | 'linear';
  readonly domain: readonly [low: number, high: number];
}

/** Logarithmic where losses differ by much. */
function lossAxis(values: readonly number[], divergence: boolean): LossAxis {
  const [lowest, highest] = [Math.min(...values), Math.max(...values)];
  const common = {
    label: null,
    grid: true,
    tickFormat: (value: number) => significant(value, divergence ? 1 : 3),
  };
  if (divergence && lowest > 0 && highest / lowest > 5) {
    const domain = [lowest / 1.3, highest * 1.5] as const;
    return { ...common, type: 'log', domain, ticks: logTicks(...domain) };
  }
  const margin = 0.1 * (highest - lowest || highest);
  const from = divergence ? Math.max(0, lowest - margin) : lowest - margin;
  return {
    ...common,
    type: 'linear',
    domain: [from, highest + margin],
    ticks: 6,
    tickFormat: (value: number) => significant(value, divergence ? 2 : 4),
  };
}

/** Names beside their points, on the side that has room, moved apart where they would cover each other. */
function labels(
  points: readonly Point[],
  { type, domain }: LossAxis,
  height: number,
  right: (point: Point) => boolean,
): Plot.Markish[] {
  const scaled = (value: number) => (type === 'log' ? Math.log(value) : value);
  const [low, high] = domain.map(scaled) as [number, number];
  const pixel = ({ value }: Point) => (height * (high - scaled(value))) / (high - low);
  return [true, false].flatMap((side) => {
    let last = -Infinity;
    return points
      .filter((point) => right(point) === side)
      .sort((a, b) => pixel(a) - pixel(b))
      .map((point) => {
        const at = Math.max(pixel(point), last + 16);
        last = at;
        return Plot.text([point], {
          x: 'bytes',
          y: 'value',
          text: 'label',
          fontWeight: 600,
          stroke: 'var(--surface)',
          strokeWidth: 4,
          fill: 'var(--ink)',
          textAnchor: side ? 'start' : 'end',
          dx: side ? 12 : -12,
          dy: at - pixel(point),
        });
      });
  });
}

/** Labels of the runs that no other beats in both size and divergence. */
export function undominated(runs: readonly Run[]): ReadonlySet<string> {
  return new Set(
    points(runs, divergence)
      .filter((point) => point.best)
      .map(({ label }) => label),
  );
}
