/** Perplexity before and after, each with its interval, and their ratio. */

import * as Plot from '@observablehq/plot';
import type { ReportData } from '../src/report/schema.ts';
import { figure } from './figure.ts';
import type { Estimate } from './format.ts';
import { fixed, inBrackets } from './format.ts';

interface Row extends Estimate {
  readonly name: string;
}

export function perplexityFigure({ original, compressed }: ReportData): HTMLElement | undefined {
  const named = (name: string, estimate: Estimate | undefined) =>
    estimate && Number.isFinite(estimate.value) ? [{ name, ...estimate }] : [];
  const rows = [...named('original', original.perplexity), ...named('compressed', compressed.perplexity)];
  if (rows.length === 0) return undefined;
  const digits = rows[0]!.value < 100 ? 3 : 1;
  const ratio = named('compressed over original', compressed.perplexityRatio);
  const said = [
    ...rows.map((row) => `${row.name} ${fixed(row.value, digits)}${inBrackets(row, digits)}`),
    ...ratio.map((row) => `${row.name} ${fixed(row.value, 4)}${inBrackets(row, 4)}`),
  ];
  return figure({
    title: 'Perplexity, with its interval',
    caption:
      ratio.length > 0
        ? 'Above, most of an interval’s width is the text, which is the same for both. Below, their ratio: there only the difference is left. 1 means that nothing was lost.'
        : 'Both on the same text: most of an interval’s width is the text, not the difference.',
    views: [
      {
        label: 'Perplexity',
        description: `Perplexity: ${said.join(', ')}.`,
        draw: (width) => [
          intervals(rows, width, digits),
          ...(ratio.length > 0 ? [intervals(ratio, width, 4, 1)] : []),
        ],
      },
    ],
    data: {
      head: ['Model', 'Perplexity', 'from', 'to'],
      rows: () => [
        ...rows.map((row) => [row.name, ...cells(row, digits)]),
        ...ratio.map((row) => [row.name, ...cells(row, 4)]),
      ],
    },
  });
}

const cells = ({ value, low, high }: Row, digits: number) =>
  [value, low, high].map((each) => (each === undefined ? '' : fixed(each, digits)));

/** @param reference where nothing was lost */
function intervals(
  rows: readonly Row[],
  width: number,
  digits: number,
  reference?: number,
): Plot.PlotOptions {
  return {
    width,
    height: 34 + 56 * rows.length,
    marginTop: 6,
    marginLeft: 14,
    marginRight: 14,
    x: { label: null, nice: true, grid: true, inset: 10, ticks: Math.max(3, width / 110) },
    y: { axis: null, domain: rows.map(({ name }) => name) },
    marks: [
      ...(reference === undefined
        ? []
        : [
            Plot.ruleX([reference], {
              stroke: 'var(--before)',
              strokeWidth: 2,
              strokeDasharray: '4 3',
              // Below what is written.
              insetTop: 26,
            }),
          ]),
      Plot.ruleY(
        rows.filter(({ low }) => low !== undefined),
        {
          y: 'name',
          x1: 'low',
          x2: 'high',
          stroke: colourOf,
          strokeWidth: 3,
          dy: 10,
          marker: 'tick',
        },
      ),
      Plot.dot(rows, {
        y: 'name',
        x: 'value',
        r: 6,
        fill: colourOf,
        stroke: 'var(--surface)',
        strokeWidth: 2,
        dy: 10,
      }),
      Plot.text(rows, {
        y: 'name',
        text: (row: Row) => `${row.name}  ${fixed(row.value, digits)}`,
        frameAnchor: 'left',
        dx: -13,
        dy: -12,
        fontWeight: 600,
        stroke: 'var(--surface)',
        strokeWidth: 4,
        fill: 'var(--ink)',
      }),
    ],
  };
}

const colourOf = ({ name }: Row) => (name === 'original' ? 'var(--before)' : 'var(--after)');
