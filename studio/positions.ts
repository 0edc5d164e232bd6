/** The loss by position in the sequence. */

import * as Plot from '@observablehq/plot';
import type { ReportEvaluation } from '../src/report/schema.ts';
import { logTicks } from './error.ts';
import { figure, key, tipX } from './figure.ts';
import { significant } from './format.ts';
import { divergenceAxis, meansHead, meansRow, meansTip } from './means.ts';

type Bucket = ReportEvaluation['positions'][number];

export function positionsFigure({ positions }: ReportEvaluation): HTMLElement {
  const buckets = positions.filter(({ tokens }) => tokens > 0);
  const faint = buckets.some((bucket) => isFaint(bucket, buckets))
    ? ' Faint: positions that less than a quarter as many tokens stand at as elsewhere, which chance moves.'
    : '';
  return figure({
    title: 'By position',
    caption:
      'Means over all sequences. A loss that grows to the right comes from long contexts; one on the left from having little to go by.' +
      faint,
    views: [
      {
        label: 'KL divergence',
        description: 'KL divergence by position in the sequence.',
        draw: (width) => divergence(buckets, width),
      },
      {
        label: 'Perplexity',
        description: 'Perplexity of both models by position in the sequence.',
        legend: () =>
          key([
            ['before-line', 'original'],
            ['after-line', 'compressed'],
          ]),
        draw: (width) => perplexity(buckets, width),
      },
    ],
    data: {
      head: ['Position', ...meansHead],
      rows: () => buckets.map((bucket) => [place(bucket), ...meansRow(bucket)]),
    },
  });
}

/** Few sequences reach so far. */
const isFaint = ({ tokens, from, to }: Bucket, all: readonly Bucket[]): boolean =>
  tokens / (to - from) < Math.max(...all.map((each) => each.tokens / (each.to - each.from))) / 4;

interface Segment {
  readonly from: Bucket;
  readonly to: Bucket;
}

/** A line of the buckets of many tokens, and faint ones to and between those of few. */
function curve(
  buckets: readonly Bucket[],
  y: (bucket: Bucket) => number,
  style: { readonly stroke: string; readonly strokeWidth: number; readonly strokeDasharray?: string },
): Plot.Markish[] {
  const faint = buckets
    .slice(1)
    .map((to, index): Segment => ({ from: buckets[index]!, to }))
    .filter(({ from, to }) => isFaint(from, buckets) || isFaint(to, buckets));
  return [
    Plot.lineY(buckets, { x: middle, y: clear(buckets, y), ...style }),
    Plot.link(faint, {
      x1: ({ from }: Segment) => middle(from),
      y1: ({ from }: Segment) => y(from),
      x2: ({ to }: Segment) => middle(to),
      y2: ({ to }: Segment) => y(to),
      ...style,
      strokeOpacity: 0.3,
    }),
  ];
}

/** Nothing where there are few tokens, which interrupts lines and areas. */
const clear =
  (buckets: readonly Bucket[], y: (bucket: Bucket) => number) =>
  (bucket: Bucket): number =>
    isFaint(bucket, buckets) ? Number.NaN : y(bucket);

const middle = ({ from, to }: Bucket) => (from + to - 1) / 2;
const place = ({ from, to }: Bucket) => (to - from > 1 ? `${from} to ${to - 1}` : `${from}`);
const title = (bucket: Bucket) => meansTip(`position ${place(bucket)}`, bucket);

const layout = {
  height: 240,
  marginLeft: 52,
  marginBottom: 40,
  x: { label: 'position in the sequence', labelOffset: 36 },
};

function divergence(buckets: readonly Bucket[], width: number): Plot.PlotOptions {
  const kl = (bucket: Bucket) => bucket.kl;
  return {
    ...layout,
    width,
    y: divergenceAxis,
    marks: [
      Plot.areaY(buckets, { x: middle, y: clear(buckets, kl), fill: 'var(--after)', fillOpacity: 0.15 }),
      ...curve(buckets, kl, { stroke: 'var(--after)', strokeWidth: 2 }),
      ...(buckets.length <= 32
        ? [
            Plot.dot(buckets, {
              x: middle,
              y: kl,
              fill: 'var(--after)',
              fillOpacity: (bucket: Bucket) => (isFaint(bucket, buckets) ? 0.3 : 1),
              r: 2.5,
            }),
          ]
        : []),
      Plot.ruleY([0]),
      tipX(buckets, { x: middle, y: kl, title }),
    ],
  };
}

function perplexity(buckets: readonly Bucket[], width: number): Plot.PlotOptions {
  const before = ({ originalNats }: Bucket) => Math.exp(originalNats);
  const after = ({ nats }: Bucket) => Math.exp(nats);
  const values = buckets.flatMap((bucket) => [before(bucket), after(bucket)]);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const scale =
    high / low > 10 ? { type: 'log' as const, ticks: logTicks(low, high) } : { nice: true, ticks: 5 };
  return {
    ...layout,
    width,
    y: { ...scale, label: null, grid: true, tickFormat: (value: number) => significant(value, 2) },
    marks: [
      ...curve(buckets, after, { stroke: 'var(--after)', strokeWidth: 2.5 }),
      ...curve(buckets, before, { stroke: 'var(--before)', strokeWidth: 1.5, strokeDasharray: '4 3' }),
      tipX(buckets, { x: middle, y: after, title }),
    ],
  };
}
