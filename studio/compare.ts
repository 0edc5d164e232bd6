/** Several runs side by side: size against quality, what each lost, and the errors of their layers. */

import * as Plot from '@observablehq/plot';
import type { ReportData } from '../src/report/schema.ts';
import type { Child } from './dom.ts';
import { h, table } from './dom.ts';
import type { Cell } from './error.ts';
import { cellsOf, distinguished, kindsOf, logAxis } from './error.ts';
import { figure, tip } from './figure.ts';
import type { Estimate } from './format.ts';
import { bytes, fixed, interval, percent, significant, size, whole } from './format.ts';
import type { Run } from './tradeoff.ts';
import { tradeOff, undominated } from './tradeoff.ts';

export function comparison(runs: readonly Run[]): Child[] {
  const models = [...new Set(runs.map(({ report }) => report.model))];
  const warnings = doubts(runs);
  return [
    h(
      'div',
      { class: 'title' },
      h('h1', {}, `${runs.length} runs compared`),
      h('p', { class: 'lead' }, `Compressed from ${models.join(' and ')}.`),
    ),
    warnings.length > 0
      ? h(
          'aside',
          { class: 'notes', 'aria-label': 'Notes' },
          h('h2', {}, 'To know'),
          h(
            'ul',
            {},
            warnings.map((line) => h('li', {}, line)),
          ),
        )
      : undefined,
    h(
      'section',
      { id: 'comparison' },
      h('h2', {}, 'Size against quality'),
      h('div', { class: 'figures' }, tradeOff(runs, { comparable: incomparable(runs) === undefined })),
      h('h2', {}, 'Side by side'),
      overview(runs),
    ),
    layers(runs),
  ];
}

/** Why losses of these runs cannot be compared, in a sentence; undefined where they can. */
function incomparable(runs: readonly Run[]): string | undefined {
  const measured = runs.filter(({ report }) => report.compressed.kl);
  const distinct = (among: readonly Run[], of: (report: ReportData) => unknown) =>
    new Set(among.map(({ report }) => JSON.stringify(of(report)))).size > 1;
  if (distinct(runs, ({ original, modelType }) => [modelType, original.parameters]))
    return 'The runs did not start from the same model: their losses are each against their own original.';
  if (distinct(measured, ({ compressed, original }) => [compressed.tokens, original.nats?.toPrecision(6)]))
    return 'The runs were not measured on the same text, or not on the same original: their losses cannot be compared.';
  return undefined;
}

/** What readers of the numbers must know. */
function doubts(runs: readonly Run[]): string[] {
  const reason = incomparable(runs);
  const lines = reason === undefined ? [] : [reason];
  const unmeasured = runs.filter(({ report }) => !report.compressed.kl).map(({ label }) => label);
  if (unmeasured.length > 0) lines.push(`Nothing was measured for ${unmeasured.join(', ')}.`);
  return lines;
}

function overview(runs: readonly Run[]): HTMLElement {
  const best = undominated(runs);
  const comparable = incomparable(runs) === undefined;
  const rows = runs.map(({ label, report }) => {
    const { original, compressed, speed } = report;
    const { kl, agreement } = compressed;
    return [
      label,
      !kl || !comparable ? '–' : h('span', { class: 'whole' }, best.has(label) ? '● yes' : '○ no'),
      bytes(compressed.bytes),
      size(original.bytes, compressed.bytes),
      compressed.bitsPerWeight.toFixed(2),
      compressed.perplexity ? withInterval(compressed.perplexity, 3) : '–',
      kl ? [significant(kl.mean), range(interval(kl, significant))] : '–',
      agreement ? percent(agreement.value, 1) : '–',
      speed?.compressed ? whole(Math.round(speed.compressed.decodeTokensPerSecond)) : '–',
      report.target,
    ];
  });
  const { original, speed } = runs[0]!.report;
  const same = runs.every(
    ({ report }) => report.original.bytes === original.bytes && report.model === runs[0]!.report.model,
  );
  const reference = [
    'original',
    '',
    bytes(original.bytes),
    '',
    original.bitsPerWeight.toFixed(2),
    original.perplexity ? withInterval(original.perplexity, 3) : '–',
    '',
    '',
    speed?.original ? whole(Math.round(speed.original.decodeTokensPerSecond)) : '–',
    '',
  ];
  const head = [
    'Run',
    'On the line',
    'Bytes',
    'Size',
    'Bits',
    'Perplexity',
    'KL',
    'Same top token',
    'Tokens/s',
    'Written',
  ];
  const all = [...(same ? [reference] : []), ...rows];
  // A column that nobody has anything in is left out.
  const kept = head.map((_, column) => column).filter((column) => all.some((row) => !isEmpty(row[column])));
  const only = <T>(row: readonly T[]) => kept.map((column) => row[column]!);
  const left = [kept.indexOf(1), kept.indexOf(9)];
  return table(only(head), all.map(only), { caption: 'Runs side by side', left });
}

const isEmpty = (cell: Child): boolean => cell === '' || cell === undefined || cell === '–';

const range = (text: string | undefined) => text && h('span', { class: 'range' }, text);
const withInterval = (estimate: Estimate, digits: number): Child => [
  fixed(estimate.value, digits),
  range(interval(estimate, digits)),
];

/** A panel for each kind of matrix, a line for each run. */
function layers(runs: readonly Run[]): HTMLElement | undefined {
  const cells = runs.flatMap(({ label, report }) =>
    cellsOf(report.tensors)
      .filter(({ error }) => error > 0)
      .map((cell) => ({ ...cell, run: label })),
  );
  if (cells.length === 0) return undefined;
  const kinds = kindsOf(cells);
  const names = [...new Set(cells.map(({ run }) => run))];
  return h(
    'section',
    { id: 'layers' },
    h('h2', {}, 'Errors of the layers'),
    h(
      'div',
      { class: 'figures' },
      figure({
        title: 'Error by layer, a panel for each kind',
        caption:
          'Relative squared error of each matrix, on one scale in all panels. Whether it is of outputs or of weights, each run’s own page says.',
        views: [
          {
            label: 'Errors',
            description: `Error by layer and kind of ${names.length} runs.`,
            draw: (width) => panels(cells, kinds, names, width),
          },
        ],
        data: {
          head: ['Run', 'Kind', 'Median', 'Largest'],
          left: [1],
          rows: () =>
            names.flatMap((run) =>
              kinds.map((kind) => {
                const errors = cells
                  .filter((cell) => cell.run === run && cell.kind === kind)
                  .map(({ error }) => error);
                return [run, kind, percent(median(errors)), percent(Math.max(...errors, 0))];
              }),
            ),
        },
        wide: true,
      }),
    ),
  );
}

type RunCell = Cell & { readonly run: string };

function panels(
  cells: readonly RunCell[],
  kinds: readonly string[],
  names: readonly string[],
  width: number,
): Plot.PlotOptions {
  const columns = Math.max(1, Math.min(kinds.length, 4, Math.floor(width / 230)));
  const rows = Math.ceil(kinds.length / columns);
  const column = (kind: string) => kinds.indexOf(kind) % columns;
  const row = (kind: string) => Math.floor(kinds.indexOf(kind) / columns);
  const few = new Set(cells.map(({ layer }) => layer)).size <= 16;
  const facet = { fx: ({ kind }: RunCell) => column(kind), fy: ({ kind }: RunCell) => row(kind) };
  const place = { x: 'layer', y: 'error' } as const;
  return {
    width,
    height: 40 + rows * 170,
    marginLeft: 62,
    fx: { axis: null, padding: 0.08 },
    fy: { axis: null, padding: 0.16 },
    x: {
      label: 'layer',
      ticks: 4,
      tickFormat: (layer: number) => (Number.isInteger(layer) ? String(layer) : ''),
    },
    y: logAxis(cells.map(({ error }) => error)),
    ...distinguished(names),
    marks: [
      Plot.frame({ stroke: 'var(--line)' }),
      Plot.text(kinds, {
        fx: column,
        fy: row,
        frameAnchor: 'top-left',
        dx: 4,
        dy: -14,
        text: String,
        fontWeight: 600,
      }),
      Plot.lineY(cells, { ...facet, ...place, z: 'run', stroke: 'run', strokeWidth: 1.5, sort: 'layer' }),
      Plot.dot(few ? cells : cells.filter(({ layer }) => layer % 4 === 0), {
        ...facet,
        ...place,
        fill: 'run',
        symbol: 'run',
        r: 3,
      }),
      tip(cells, {
        ...facet,
        ...place,
        title: ({ run, kind, layer, error }: RunCell) => `${run}\nlayer ${layer}, ${kind}\n${percent(error)}`,
      }),
    ],
  };
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? 0;
}
