/** The plan of a run as people read it. */

import type { Plan } from '../plan/plan.ts';
import { formatBytes, table } from './table.ts';

export function describePlan({ memory, disk }: Plan): string {
  const rows = memory.phases.flatMap(({ phase, bytes, parts }) => [
    [phase, formatBytes(bytes)],
    ...parts.map((part) => [`  ${part.what}`, formatBytes(part.bytes)]),
  ]);
  return [
    table(['memory', 'bytes'], rows),
    '',
    `Most: ${formatBytes(memory.bytes)} to ${memory.largest}, of ${formatBytes(memory.machine)} here.`,
    '',
    table(
      ['disk', 'bytes'],
      disk.parts.map(({ what, bytes }) => [what, formatBytes(bytes)]),
    ),
    '',
    `Together: ${formatBytes(disk.bytes)} in ${disk.where}${disk.free === undefined ? '' : `, where ${formatBytes(disk.free)} are free`}.`,
  ].join('\n');
}
