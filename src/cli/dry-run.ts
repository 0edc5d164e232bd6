/** What a run would do, as people read it. */

import type { DryRun, ForeseenMatrix } from '../plan/dry-run.ts';
import { describePlan } from './plan.ts';
import { formatBytes, table } from './table.ts';

export function describeDryRun(dry: DryRun): string {
  const { before, after, about, reason, steps, notes, target } = dry;
  return [
    `Would write ${target}:`,
    ...steps.map((step) => `  --step "${step}"`),
    ...(reason === undefined ? [] : [`Chosen: ${reason}.`]),
    '',
    table(['matrices', 'by', 'from', 'to', 'bytes before', 'after'], groupsOf(dry.matrices)),
    '',
    table(
      ['', 'before', about ? 'after, about' : 'after'],
      [
        ['bytes', before.bytes.toLocaleString('en'), after.bytes.toLocaleString('en')],
        ['bits a weight', before.bitsPerWeight.toFixed(2), after.bitsPerWeight.toFixed(2)],
      ],
    ),
    ...notes.map((note) => `Note: ${note}`),
    '',
    describePlan(dry),
  ].join('\n');
}

/** One line for all that are alike: "q_proj x 30". */
function groupsOf(matrices: readonly ForeseenMatrix[]): string[][] {
  const groups = new Map<string, ForeseenMatrix[]>();
  for (const matrix of matrices) {
    const { kind, method, before, after, shape } = matrix;
    const key = JSON.stringify([kind, method, before.label, after.label, shape]);
    groups.set(key, [...(groups.get(key) ?? []), matrix]);
  }
  return [...groups.values()].map((alike) => {
    const { kind, method, before, after, shape } = alike[0]!;
    const sum = (when: 'before' | 'after') =>
      formatBytes(alike.reduce((bytes, matrix) => bytes + matrix[when].bytes, 0));
    const count = alike.length > 1 ? ` x ${alike.length}` : '';
    return [
      `${kind} [${shape.join(', ')}]${count}`,
      method ?? '',
      before.label,
      method === undefined && before.label === after.label ? 'as it is' : after.label,
      sum('before'),
      sum('after'),
    ];
  });
}
