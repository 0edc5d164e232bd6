/** What a reader looks up: every tensor, the recipe, how to make it again, how long it took. */

import type { ReportData } from '../src/report/schema.ts';
import { folded, h, table } from './dom.ts';
import { bytes, duration, percent } from './format.ts';

export function details(report: ReportData): HTMLElement {
  const { tensors, recipe, reproduction, timings } = report;
  return h(
    'section',
    { id: 'details' },
    h('h2', {}, 'Details'),
    folded(`All ${tensors.length} tensors`, () => tensorTable(report), { printed: false }),
    folded(
      'Recipe',
      () =>
        h(
          'div',
          {},
          h('p', {}, 'Complete, as recipe.yaml has it; JSON is YAML too, so that this works as one.'),
          h('pre', { tabindex: 0 }, JSON.stringify(recipe, null, 2)),
        ),
      { printed: true },
    ),
    folded(
      'Make it again',
      () =>
        h(
          'dl',
          { class: 'facts' },
          reproduction.map(([name, value]) =>
            h('div', {}, h('dt', {}, name), h('dd', {}, h('code', {}, value))),
          ),
        ),
      { printed: true },
    ),
    folded(
      'Time and machine',
      () => {
        const seconds = Object.entries(timings.seconds);
        const total = seconds.reduce((sum, [, value]) => sum + value, 0);
        const rows = seconds.map(([phase, value]) => [phase, duration(value), percent(value / total)]);
        return h(
          'div',
          {},
          h('p', {}, timings.machine),
          table(['Phase', 'Time', 'Share'], [...rows, ['all', duration(total), '100%']], {
            caption: 'Time by phase',
          }),
        );
      },
      { printed: true },
    ),
  );
}

function tensorTable({ tensors }: ReportData): HTMLElement {
  const pruned = tensors.some(({ sparsity }) => sparsity !== undefined);
  return table(
    ['Tensor', 'Shape', 'Before', '', 'After', '', 'Method', 'Error', ...(pruned ? ['Zeros'] : [])],
    tensors.map(({ name, shape, before, after, method, error, errorOf, sparsity }) => [
      h('code', {}, name),
      shape.join(' × '),
      before?.label ?? '–',
      before ? bytes(before.bytes) : '–',
      after?.label ?? 'removed',
      after ? bytes(after.bytes) : '–',
      method ?? '',
      error === undefined ? '' : `${percent(error)} of ${errorOf}`,
      ...(pruned ? [sparsity === undefined ? '' : percent(sparsity, 1)] : []),
    ]),
    { caption: 'Tensors before and after', left: [1, 2, 4, 6] },
  );
}
