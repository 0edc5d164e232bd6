/**
 * A figure: title, what it shows in words, one view or several to switch between, and its numbers as a table for
 * whoever cannot see it or wants them. Drawn again when its width changes.
 */

import * as Plot from '@observablehq/plot';
import type { Child } from './dom.ts';
import { folded, h, table } from './dom.ts';

export interface View {
  /** On the switch, where there are several. */
  readonly label: string;
  /** What to see in it, in a sentence, for screen readers. */
  readonly description: string;
  /** Pixels that it takes at least; below, it scrolls in its box. */
  readonly minimum?: number;
  readonly draw: (width: number) => Plot.PlotOptions | readonly Plot.PlotOptions[];
  readonly legend?: () => Child;
}

export interface FigureOptions {
  readonly title: string;
  readonly caption: Child;
  readonly views: readonly View[];
  readonly data: {
    readonly head: readonly string[];
    readonly rows: () => readonly (readonly Child[])[];
    readonly left?: readonly number[];
  };
  /** Takes the whole width where others stand side by side. */
  readonly wide?: boolean;
}

let figures = 0;

export function figure({ title, caption, views, data, wide = false }: FigureOptions): HTMLElement {
  const id = `figure-${++figures}`;
  let view = views[0]!;
  let drawn = 0;
  const legend = h('div', { class: 'legend' });
  const box = h('div', { class: 'plot' });
  const draw = (width: number) => {
    if (width <= 0) return;
    drawn = width;
    box.classList.toggle('scrolls', width < (view.minimum ?? 0));
    const options = view.draw(Math.max(width, view.minimum ?? 0));
    const plots = Array.isArray(options) ? options : [options];
    box.replaceChildren(...plots.map((each) => labelled(each, view.description)));
  };
  const show = (next: View) => {
    view = next;
    legend.replaceChildren(...[view.legend?.() ?? []].flat().map((child) => child as Node));
    draw(drawn);
  };
  new ResizeObserver(([entry]) => {
    const width = Math.floor(entry!.contentRect.width);
    if (width !== drawn) draw(width);
  }).observe(box);
  show(view);
  return h(
    'figure',
    { 'aria-labelledby': id, class: wide ? 'wide' : undefined },
    h(
      'div',
      { class: 'head' },
      h('h3', { id }, title),
      views.length > 1 ? viewSwitch(id, views, show) : undefined,
    ),
    legend,
    box,
    h('figcaption', {}, caption),
    folded('Numbers', () => table(data.head, data.rows(), { caption: title, left: data.left ?? [] }), {
      printed: false,
      name: 'numbers',
    }),
  );
}

function labelled(options: Plot.PlotOptions, description: string): Element {
  const plot = Plot.plot({ ...options, style: { overflow: 'visible', background: 'none' } });
  plot.setAttribute('role', 'img');
  plot.setAttribute('aria-label', description);
  return plot;
}

function viewSwitch(name: string, views: readonly View[], show: (view: View) => void): HTMLElement {
  return h(
    'fieldset',
    { class: 'switch' },
    h('legend', { class: 'unseen' }, 'View'),
    views.map((view, index) =>
      h(
        'label',
        {},
        h('input', { type: 'radio', name, checked: index === 0, onchange: () => show(view) }),
        h('span', {}, view.label),
      ),
    ),
  );
}

/** What a mark means: a sample of it and a word. */
export function key(entries: readonly (readonly [sample: string, label: string])[]): HTMLElement {
  return h(
    'ul',
    { class: 'key' },
    entries.map(([sample, label]) => h('li', {}, h('span', { class: `sample ${sample}` }), label)),
  );
}

/** What the mark nearest to the pointer is, in words. */
export function tip(data: Plot.Data, options: Plot.TipOptions): Plot.Markish {
  return Plot.tip(data, Plot.pointer({ ...options, lineHeight: 1.3 }));
}

/** The same where marks stand side by side: nearest by x alone. */
export function tipX(data: Plot.Data, options: Plot.TipOptions): Plot.Markish {
  return Plot.tip(data, Plot.pointerX({ ...options, lineHeight: 1.3 }));
}
