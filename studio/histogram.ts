/** How the divergence of single tokens is spread: the tail that a mean hides. */

import * as Plot from '@observablehq/plot';
import type { ReportData, ReportEvaluation } from '../src/report/schema.ts';
import { logTicks } from './error.ts';
import { figure, tipX } from './figure.ts';
import { percent, significant, whole } from './format.ts';

type Divergence = NonNullable<ReportData['compressed']['kl']>;

interface Bin {
  readonly name: string;
  /** Where it is drawn from: 0 is nowhere on this axis. */
  readonly start: number;
  readonly to: number;
  readonly tokens: number;
  /** Of all tokens, in it; in it or above. */
  readonly share: number;
  readonly above: number;
}

export function histogramFigure({ divergences }: ReportEvaluation, kl: Divergence): HTMLElement {
  const bins = binsOf(divergences);
  const tokens = divergences.reduce((sum, bin) => sum + bin.tokens, 0);
  return figure({
    title: 'How the divergence is spread',
    caption: `KL divergence of single tokens; both axes count in powers of ten, so that a tail of few tokens is seen. Median ${significant(kl.median, 2)}, mean ${significant(kl.mean, 2)}, 99th percentile ${significant(kl.p99, 2)}.`,
    views: [
      {
        label: 'Tokens',
        description: `Histogram of the KL divergence of ${whole(tokens)} tokens.`,
        draw: (width) => histogram(bins, kl, width),
      },
    ],
    data: {
      head: ['KL of a token', 'Tokens', 'Share', 'This or more'],
      rows: () => bins.map((bin) => [bin.name, whole(bin.tokens), percent(bin.share), percent(bin.above)]),
    },
  });
}

/** From the lowest that has a token. */
function binsOf(divergences: ReportEvaluation['divergences']): Bin[] {
  const all = divergences.reduce((sum, { tokens }) => sum + tokens, 0);
  const first = divergences.findIndex(({ tokens }) => tokens > 0);
  let above = all;
  return divergences.slice(Math.max(0, first)).map(({ from, to, tokens }) => {
    const bin = {
      name: from === 0 ? `below ${significant(to, 1)}` : `${significant(from, 1)} to ${significant(to, 1)}`,
      // As wide as the others in the logarithm.
      start: from === 0 ? to / 3 : from,
      to,
      tokens,
      share: tokens / all,
      above: above / all,
    };
    above -= tokens;
    return bin;
  });
}

/** What a bar without any token would stand on: a logarithm has no 0. */
const floor = 0.7;

function histogram(bins: readonly Bin[], { median, p99 }: Divergence, width: number): Plot.PlotOptions {
  const most = Math.max(1, ...bins.map(({ tokens }) => tokens));
  const marks = [
    { at: median, label: 'median' },
    { at: p99, label: '99%' },
  ].filter(({ at }) => at > (bins[0]?.start ?? Infinity));
  const title = ({ name, tokens, share, above }: Bin) =>
    `${name}\n${whole(tokens)} tokens, ${percent(share)}\nthis or more: ${percent(above)}`;
  return {
    width,
    height: 240,
    marginTop: 26,
    marginRight: 12,
    marginBottom: 40,
    marginLeft: 52,
    x: {
      type: 'log',
      label: 'KL divergence, nats',
      labelOffset: 36,
      ticks: Math.max(3, width / 90),
      tickFormat: (value: number) => (isPowerOfTen(value) ? significant(value, 1) : ''),
    },
    y: {
      type: 'log',
      domain: [floor, most],
      label: null,
      grid: true,
      ticks: logTicks(1, most).filter(isPowerOfTen),
      tickFormat: whole,
    },
    marks: [
      Plot.rectY(
        bins.filter(({ tokens }) => tokens > 0),
        { x1: 'start', x2: 'to', y1: floor, y2: 'tokens', fill: 'var(--after)', insetLeft: 1 },
      ),
      Plot.ruleX(marks, { x: 'at', stroke: 'var(--ink)', strokeDasharray: '4 3' }),
      Plot.text(marks, { x: 'at', text: 'label', frameAnchor: 'top', dy: -16 }),
      tipX(bins, { x1: 'start', x2: 'to', y: ({ tokens }: Bin) => Math.max(tokens, floor), title }),
    ],
  };
}

function isPowerOfTen(value: number): boolean {
  const exponent = Math.log10(value);
  return Math.abs(exponent - Math.round(exponent)) < 1e-9;
}
