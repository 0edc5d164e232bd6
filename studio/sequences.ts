/** The loss by sequence, the worst first. */

import * as Plot from '@observablehq/plot';
import type { ReportEvaluation } from '../src/report/schema.ts';
import { figure, tipX } from './figure.ts';
import { significant } from './format.ts';
import { divergenceAxis, meansHead, meansRow, meansTip } from './means.ts';

interface Row {
  readonly rank: number;
  /** From 1, as it was evaluated. */
  readonly sequence: number;
  readonly means: ReportEvaluation['sequences'][number];
}

/** @param mean over all tokens */
export function sequencesFigure({ sequences }: ReportEvaluation, mean: number): HTMLElement {
  const rows = sequences
    .map((means, index) => ({ sequence: index + 1, means }))
    .filter(({ means }) => means.tokens > 0)
    .sort((a, b) => b.means.kl - a.means.kl)
    .map((row, index) => ({ ...row, rank: index + 1 }));
  const worst = rows[0] ? `, the largest ${significant(rows[0].means.kl)}` : '';
  return figure({
    title: 'By sequence',
    caption:
      'KL divergence, sorted, worst first. A few tall ones are texts that it does worse on than on others.',
    views: [
      {
        label: 'Sequences',
        description: `KL divergence of ${rows.length} sequences, sorted${worst}, on average ${significant(mean)}.`,
        draw: (width) => bars(rows, mean, width),
      },
    ],
    data: {
      head: ['Sequence', ...meansHead],
      rows: () => rows.map(({ sequence, means }) => [sequence, ...meansRow(means)]),
    },
  });
}

function bars(rows: readonly Row[], mean: number, width: number): Plot.PlotOptions {
  const bar = { x: 'rank', y: ({ means }: Row) => means.kl };
  const title = ({ sequence, means }: Row) => meansTip(`sequence ${sequence}`, means);
  return {
    width,
    height: 240,
    marginLeft: 52,
    marginRight: 1,
    x: { axis: null, type: 'band', padding: rows.length > 100 ? 0 : 0.25 },
    y: divergenceAxis,
    marks: [
      Plot.barY(rows, { ...bar, fill: 'var(--after)' }),
      Plot.ruleY([mean], { stroke: 'var(--ink)', strokeDasharray: '4 3' }),
      Plot.text([`mean ${significant(mean)}`], {
        y: [mean],
        frameAnchor: 'right',
        dy: -8,
        stroke: 'var(--surface)',
        strokeWidth: 4,
        fill: 'var(--ink)',
      }),
      Plot.ruleY([0]),
      tipX(rows, { ...bar, title }),
    ],
  };
}
