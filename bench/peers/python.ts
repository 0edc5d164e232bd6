/** A library's own program beside ours. */

import { spawnSync } from 'node:child_process';

/** @returns the JSON of the last line that it prints, before which libraries print their own; or { failed: its error } */
export function runPython(python: string, script: string, args: readonly string[]): Record<string, unknown> {
  const { status, stdout, stderr } = spawnSync(python, [script, ...args], { encoding: 'utf8' });
  if (status === 0) return JSON.parse(stdout.trim().split('\n').at(-1)!) as Record<string, unknown>;
  const lines = stderr.trim().split('\n');
  return { failed: lines.findLast((line) => /rror[:,]/.test(line)) ?? lines.at(-1) };
}
