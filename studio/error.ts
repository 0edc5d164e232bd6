/** What compression did to each matrix: its error by layer and kind. */

import * as Plot from '@observablehq/plot';
import type { ReportData, ReportTensor } from '../src/report/schema.ts';
import { h } from './dom.ts';
import { figure, tip } from './figure.ts';
import { percent } from './format.ts';

export interface Cell {
  readonly kind: string;
  readonly layer: number;
  readonly error: number;
  readonly name: string;
}

/** Of the matrices of the blocks that were compressed; of several of a kind in a layer, as experts, the one that lost most. */
export function cellsOf(tensors: readonly ReportTensor[]): Cell[] {
  const worst = new Map<string, Cell>();
  for (const { kind, layer, error, name } of tensors) {
    if (layer === undefined || error === undefined) continue;
    const place = `${layer} ${kind}`;
    const known = worst.get(place);
    if (!known || error > known.error) worst.set(place, { kind, layer, error, name });
  }
  return [...worst.values()];
}

export function errorFigure({ tensors }: ReportData): HTMLElement | undefined {
  const cells = cellsOf(tensors);
  if (cells.length === 0) return undefined;
  const measured = tensors.find(({ layer, errorOf }) => layer !== undefined && errorOf)!.errorOf!;
  const others = tensors.filter(({ layer, error }) => layer === undefined && error !== undefined);
  const outside = others.map(({ name, error, errorOf }) => `${name} ${percent(error!)} of its ${errorOf}`);
  const worst = cells.reduce((most, cell) => (cell.error > most.error ? cell : most));
  const least = Math.min(...cells.map(({ error }) => error));
  const alike =
    cells.length > 1 && worst.error < 1.5 * least
      ? ` Much the same everywhere: ${percent(least)} to ${percent(worst.error)}.`
      : '';
  const description = `Largest: ${percent(worst.error)}, ${worst.name}.${alike}`;
  return figure({
    title: measured === 'outputs' ? 'Error of the outputs' : 'Error of the weights',
    caption: [
      measured === 'outputs'
        ? 'Squared error of what each matrix puts out on the calibration text, relative to the squared outputs.'
        : 'Squared error of each matrix, relative to its squared weights: there was no text to see outputs on.',
      ` ${description}`,
      kindsOf(cells).some((kind) => kind.includes('experts')) ? ' Of experts, the one that lost most.' : '',
      outside.length > 0 ? ` Outside the layers: ${outside.join('; ')}.` : '',
    ],
    views: [
      {
        label: 'Map',
        description: `Error by layer and kind. ${description}`,
        draw: (width) => heatMap(cells, width),
        legend: scale,
      },
      ...(worst.error > 0
        ? [
            {
              label: 'Lines',
              description: `Error by layer, a line for each kind. ${description}`,
              draw: (width: number) =>
                lines(
                  cells.filter(({ error }) => error > 0),
                  width,
                ),
            },
          ]
        : []),
    ],
    data: {
      head: ['Layer', ...kindsOf(cells)],
      rows: () =>
        layersOf(cells).map((layer) => [
          layer,
          ...kindsOf(cells).map((kind) => {
            const cell = cells.find((each) => each.kind === kind && each.layer === layer);
            return cell ? percent(cell.error) : '';
          }),
        ]),
    },
    wide: true,
  });
}

/** For tips, which are narrow. */
const named = ({ kind, layer, error }: Cell) => `layer ${layer}, ${kind}\n${percent(error)}`;

export const kindsOf = (cells: readonly Cell[]) => [...new Set(cells.map(({ kind }) => kind))];
export const layersOf = (cells: readonly Cell[]) =>
  [...new Set(cells.map(({ layer }) => layer))].sort((a, b) => a - b);

/** Errors that the colours stand for, the same on every page, so that those of two runs compare; between them they blend. */
const stops = [1e-4, 5e-4, 2e-3, 1e-2, 5e-2, 0.2, 1];

/** Where an error stands among the stops: 0 at the first and below, 1.5 halfway between the second and the third. */
function placeOf(error: number): number {
  if (!(error > stops[0]!)) return 0;
  const above = stops.findIndex((stop) => stop > error);
  if (above < 0) return stops.length - 1;
  const [low, high] = [stops[above - 1]!, stops[above]!];
  return above - 1 + Math.log(error / low) / Math.log(high / low);
}

export function colourOf(error: number): string {
  const place = placeOf(error);
  const [low, share] = [Math.floor(place), Math.round(100 * (place % 1))];
  return share === 0
    ? `var(--heat-${low})`
    : `color-mix(in oklab, var(--heat-${low + 1}) ${share}%, var(--heat-${low}))`;
}

/** Of text on that colour, which in light grows darker and in dark brighter. */
function inkOn(error: number): string {
  const place = placeOf(error);
  const [light, dark] = [place < 4.2 ? 'low' : 'high', place < 3.5 ? 'low' : 'high'];
  return `light-dark(var(--heat-${light}-ink-light), var(--heat-${dark}-ink-dark))`;
}

function scale(): HTMLElement {
  const last = stops.length - 1;
  return h(
    'ol',
    { class: 'heat', 'aria-label': 'Colours, the same in all reports' },
    stops.map((stop, index) =>
      h(
        'li',
        {},
        h('span', { style: `background: ${colourOf(stop)}` }),
        `${percent(stop, stop < 1e-3 ? 2 : stop < 1e-2 ? 1 : 0)}${index === 0 ? ' or less' : index === last ? ' or more' : ''}`,
      ),
    ),
  );
}

/** Layers run to the right where there is room, downwards on a phone. */
export function heatMap(cells: readonly Cell[], width: number): Plot.PlotOptions {
  const [kinds, layers] = [kindsOf(cells), layersOf(cells)];
  const across = width >= 560;
  const [columns, rows] = across ? [layers.length, kinds.length] : [kinds.length, layers.length];
  const margins = across
    ? { marginLeft: 90, marginTop: 24 }
    : { marginLeft: 36, marginTop: 84, marginRight: 26 };
  const height = Math.max(across ? 26 : 12, Math.min(34, 600 / rows));
  const room = (width - margins.marginLeft) / columns;
  const kindAxis = { domain: kinds, label: null, tickSize: 0 };
  const layerAxis = {
    domain: layers,
    label: null,
    tickSize: 0,
    ticks: layers.filter(
      (_, index) => index % everyNth(layers.length, across ? room : height, across ? 24 : 14) === 0,
    ),
  };
  const place = across ? { x: 'layer', y: 'kind' } : { x: 'kind', y: 'layer' };
  return {
    width,
    height: margins.marginTop + rows * height + 4,
    marginRight: 1,
    marginBottom: 4,
    ...margins,
    x: { axis: 'top', padding: 0, ...(across ? layerAxis : { ...kindAxis, tickRotate: -60 }) },
    y: { padding: 0, ...(across ? kindAxis : layerAxis) },
    color: { type: 'identity' },
    marks: [
      Plot.text(['layer'], {
        frameAnchor: 'top-left',
        textAnchor: 'end',
        dx: -8,
        dy: -12,
        fill: 'var(--muted)',
      }),
      Plot.cell(cells, { ...place, fill: ({ error }: Cell) => colourOf(error), inset: 0.5, rx: 2 }),
      ...(room >= 48 && height >= 20
        ? [
            Plot.text(cells, {
              ...place,
              text: ({ error }: Cell) => percent(error),
              fill: ({ error }: Cell) => inkOn(error),
            }),
          ]
        : []),
      tip(cells, { ...place, title: named }),
    ],
  };
}

/** Of errors, with few lines. */
export function logAxis(errors: readonly number[]): Plot.ScaleOptions {
  const shown = errors.filter((error) => error > 0);
  const [low, high] = [Math.min(...shown), Math.max(...shown)];
  return {
    type: 'log',
    domain: [low / 1.2, high * 1.2],
    label: null,
    grid: true,
    ticks: logTicks(low, high),
    tickFormat: (error: number) => percent(error),
  };
}

/** Powers of ten, with halves and fifths between them where those are few. */
export function logTicks(low: number, high: number): number[] {
  const [first, last] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  const steps = last - first > 3 ? [1] : [1, 2, 5];
  const all = Array.from({ length: last - first + 1 }, (_, index) =>
    steps.map((step) => step * 10 ** (first + index)),
  );
  return all.flat().filter((tick) => tick >= low && tick <= high);
}

function everyNth(count: number, room: number, needed: number): number {
  return [1, 2, 4, 8, 16, 32, 64].find((every) => every * room >= needed) ?? count;
}

export const palette = Array.from({ length: 8 }, (_, index) => `var(--line-${index})`);
const symbols = ['circle', 'square', 'triangle', 'diamond', 'cross', 'star', 'wye', 'hexagon'] as const;

/** Colour and symbol for names, both always, so that neither is needed. */
export function distinguished(names: readonly string[]): Pick<Plot.PlotOptions, 'color' | 'symbol'> {
  const domain = [...names];
  return {
    color: { type: 'ordinal', domain, range: names.map((_, index) => palette[index % palette.length]!) },
    symbol: { domain, range: names.map((_, index) => symbols[index % symbols.length]!), legend: true },
  };
}

function lines(cells: readonly Cell[], width: number): Plot.PlotOptions {
  const layers = layersOf(cells);
  const marked = everyNth(layers.length, (width - 60) / layers.length, 14);
  return {
    width,
    height: Math.max(260, Math.min(360, width * 0.5)),
    marginLeft: 62,
    marginBottom: 40,
    x: {
      label: 'layer',
      labelOffset: 36,
      ticks: layers.filter((_, index) => index % (marked * 2) === 0),
      tickFormat: String,
    },
    y: logAxis(cells.map(({ error }) => error)),
    ...distinguished(kindsOf(cells)),
    marks: [
      Plot.lineY(cells, {
        x: 'layer',
        y: 'error',
        z: 'kind',
        stroke: 'kind',
        strokeWidth: 1.5,
        sort: 'layer',
      }),
      Plot.dot(
        cells.filter(({ layer }) => layers.indexOf(layer) % marked === 0),
        { x: 'layer', y: 'error', fill: 'kind', symbol: 'kind', r: 3.5 },
      ),
      tip(cells, {
        x: 'layer',
        y: 'error',
        title: named,
      }),
    ],
  };
}
