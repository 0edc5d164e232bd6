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
  return figure({
    title: 'By position',
    caption:
      'Means over all sequences. A loss that grows to the right comes from long contexts; one on the left from having little to go by.',
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
  const point = { x: middle, y: 'kl' };
  return {
    ...layout,
    width,
    y: divergenceAxis,
    marks: [
      Plot.areaY(buckets, { ...point, fill: 'var(--after)', fillOpacity: 0.15 }),
      Plot.lineY(buckets, { ...point, stroke: 'var(--after)', strokeWidth: 2 }),
      ...(buckets.length <= 32 ? [Plot.dot(buckets, { ...point, fill: 'var(--after)', r: 2.5 })] : []),
      Plot.ruleY([0]),
      tipX(buckets, { ...point, title }),
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
      Plot.lineY(buckets, { x: middle, y: after, stroke: 'var(--after)', strokeWidth: 2.5 }),
      Plot.lineY(buckets, {
        x: middle,
        y: before,
        stroke: 'var(--before)',
        strokeWidth: 1.5,
        strokeDasharray: '4 3',
      }),
      tipX(buckets, { x: middle, y: after, title }),
    ],
  };
}
