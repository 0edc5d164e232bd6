/** Where the bytes are, before and after: by kind of tensor, by layer, by tensor. */

import * as Plot from '@observablehq/plot';
import type { ReportData, ReportTensor } from '../src/report/schema.ts';
import type { View } from './figure.ts';
import { figure, key, tipX } from './figure.ts';
import { bytes, size as sizes } from './format.ts';

interface Row {
  readonly name: string;
  readonly tensors: number;
  readonly before: number;
  readonly after: number;
}

export function sizeFigure({ tensors, compressed }: ReportData): HTMLElement {
  const kinds = groups(tensors, ({ kind }) => kind);
  const layers = layerRows(tensors);
  const legend = () =>
    key([
      ['before', 'original'],
      ['after', 'compressed'],
    ]);
  const sum = total(tensors);
  const all = `All: ${bytes(sum.before)} before, ${bytes(sum.after)} after.`;
  const views: View[] = [
    {
      label: 'By kind',
      description: `Bytes by kind of tensor. ${all}`,
      draw: (width) => byKind(kinds, width),
      legend,
    },
    {
      label: 'By layer',
      description: `Bytes by layer. ${all}`,
      draw: (width) => columns(layers, width, layerTicks(layers, width)),
      legend,
    },
    {
      label: 'By tensor',
      description: `Bytes of each of ${tensors.length} tensors, in the order they are computed. ${all}`,
      minimum: 2 * tensors.length + 50,
      draw: (width) => columns(tensorRows(tensors), width, []),
      legend,
    },
  ];
  return figure({
    title: 'Bytes before and after',
    caption: `The weights alone: ${bytes(sum.after)} of the ${bytes(compressed.bytes)} that are written.`,
    views,
    data: {
      head: ['Kind', 'Tensors', 'Before', 'After', 'Change'],
      rows: () =>
        kinds.map(({ name, tensors, before, after }) => [
          name,
          tensors,
          bytes(before),
          bytes(after),
          sizes(before, after),
        ]),
    },
    wide: true,
  });
}

function groups(tensors: readonly ReportTensor[], nameOf: (tensor: ReportTensor) => string): Row[] {
  const names = [...new Set(tensors.map(nameOf))];
  return names.map((name) => {
    const members = tensors.filter((tensor) => nameOf(tensor) === name);
    return { name, tensors: members.length, ...total(members) };
  });
}

function total(tensors: readonly ReportTensor[]): Pick<Row, 'before' | 'after'> {
  const sum = (when: 'before' | 'after') =>
    tensors.reduce((all, tensor) => all + (tensor[when]?.bytes ?? 0), 0);
  return { before: sum('before'), after: sum('after') };
}

/** What is before the layers, the layers, what is behind them. */
function layerRows(tensors: readonly ReportTensor[]): Row[] {
  const inside = tensors.filter(({ layer }) => layer !== undefined);
  const outside = tensors.filter(({ layer }) => layer === undefined);
  const isTable = ({ kind }: ReportTensor) => kind === 'embedding' || kind === 'positions';
  const layers = groups(inside, ({ layer }) => String(layer)).sort((a, b) => Number(a.name) - Number(b.name));
  const [first, last] = [outside.filter(isTable), outside.filter((tensor) => !isTable(tensor))];
  return [...groups(first, ({ kind }) => kind), ...layers, ...groups(last, ({ kind }) => kind)];
}

function tensorRows(tensors: readonly ReportTensor[]): Row[] {
  const order = ({ layer, kind }: ReportTensor) =>
    layer ?? (kind === 'embedding' || kind === 'positions' ? -1 : 1e9);
  return tensors
    .toSorted((a, b) => order(a) - order(b))
    .map((tensor) => ({ name: tensor.name, tensors: 1, ...total([tensor]) }));
}

function describe({ name, tensors, before, after }: Row): string {
  const many = tensors === 1 ? '' : `, ${tensors} tensors`;
  return `${name}${many}\n${bytes(before)} → ${bytes(after)}\n${sizes(before, after)}`;
}

const isLarger = ({ before, after }: Row): boolean => after > before;

/** The shorter of both bars is drawn over the longer one, so that both are seen. */
const inFront = { fill: 'var(--before-soft)', stroke: 'var(--before)' } as const;

/** Name and numbers above each bar, so that the bars have the whole width on a phone too. */
function byKind(rows: readonly Row[], width: number): Plot.PlotOptions {
  const bar = { y: 'name', insetTop: 26, insetBottom: 5 } as const;
  const text = { y: 'name', dy: -10, fontVariant: 'tabular-nums' } as const;
  return {
    width,
    height: rows.length * 46,
    margin: 0,
    marginRight: 1,
    x: { axis: null, domain: [0, Math.max(...rows.map(({ before, after }) => Math.max(before, after)))] },
    y: { axis: null, domain: rows.map(({ name }) => name), padding: 0 },
    marks: [
      Plot.barX(rows, { ...bar, x: 'before', fill: 'var(--before-soft)', stroke: 'var(--before)' }),
      Plot.barX(rows, { ...bar, x: 'after', fill: 'var(--after)' }),
      Plot.barX(rows.filter(isLarger), { ...bar, x: 'before', ...inFront }),
      Plot.text(rows, { ...text, text: 'name', frameAnchor: 'left', fontWeight: 600 }),
      Plot.text(rows, {
        ...text,
        text: ({ before, after }: Row) =>
          `${bytes(before)} → ${bytes(after)}${width < 340 ? '' : `  (${sizes(before, after)})`}`,
        frameAnchor: 'right',
        fill: 'var(--muted)',
      }),
    ],
  };
}

function columns(rows: readonly Row[], width: number, ticks: readonly string[]): Plot.PlotOptions {
  const gap = width / rows.length > 12 ? 2 : 0;
  return {
    width,
    height: 260,
    marginLeft: 64,
    marginRight: 1,
    marginBottom: ticks.length > 0 ? 40 : 10,
    x: {
      domain: rows.map(({ name }) => name),
      ticks: [...ticks],
      padding: 0,
      label: ticks.length > 0 ? 'layer' : null,
      labelOffset: 36,
      axis: ticks.length > 0 ? 'bottom' : null,
    },
    y: { tickFormat: bytes, label: null, grid: true, ticks: 5 },
    marks: [
      Plot.barY(rows, {
        x: 'name',
        y: 'before',
        fill: 'var(--before-soft)',
        stroke: gap > 0 ? 'var(--before)' : 'none',
        inset: gap,
        insetBottom: 0,
      }),
      Plot.barY(rows, {
        x: 'name',
        y: 'after',
        fill: 'var(--after)',
        insetLeft: gap,
        insetRight: gap,
      }),
      Plot.barY(rows.filter(isLarger), {
        x: 'name',
        y: 'before',
        ...inFront,
        insetLeft: gap,
        insetRight: gap,
      }),
      tipX(rows, { x: 'name', y: 'before', title: describe }),
      Plot.ruleY([0]),
    ],
  };
}

/** As many names of layers as there is room for; those outside the layers have none. */
function layerTicks(rows: readonly Row[], width: number): string[] {
  const layers = rows.filter(({ name }) => /^\d+$/.test(name)).map(({ name }) => name);
  const room = Math.max(1, Math.floor((width - 60) / 28));
  const step = [1, 2, 4, 8, 16, 32].find((every) => layers.length / every <= room) ?? 64;
  return layers.filter((_, index) => index % step === 0);
}
