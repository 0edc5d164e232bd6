/** Runs the built command line as its users do: a process of its own; or only its answer, without one. */

import type { SpawnSyncReturns } from 'node:child_process';
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { main } from '../src/cli/main.ts';

export const bin = fileURLToPath(new URL('../bin/lapidary.js', import.meta.url));
/** The process that the work is done in, which the other one only starts. */
export const command = fileURLToPath(new URL('../dist/cli/command.js', import.meta.url));
const stories = fileURLToPath(new URL('../models/pebble/stories.jsonl', import.meta.url));

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Commands that compute, on one thread where none is named: tests of another file have the other core. */
const computing = ['compress', 'evaluate', 'compare', 'generate', 'imatrix'];
const onOneThread = (args: readonly string[]): readonly string[] =>
  computing.includes(args[0]!) && !args.includes('--threads') ? [...args, '--threads', '1'] : args;

/** @param interrupt sends SIGINT when standard error has this text; @param cwd where it runs */
export function lapidary(args: readonly string[], interrupt?: string, cwd?: string): Promise<Ended> {
  const child = spawn(process.execPath, [bin, ...onOneThread(args)], {
    stdio: ['ignore', 'pipe', 'pipe'],
    cwd,
  });
  let [stdout, stderr] = ['', ''];
  let sent = false;
  child.stdout.on('data', (data) => {
    stdout += data;
  });
  child.stderr.on('data', (data) => {
    stderr += data;
    if (interrupt !== undefined && !sent && stderr.includes(interrupt)) sent = child.kill('SIGINT');
  });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, stdout, stderr }));
  });
}

/** The same with a module that the process runs before, which adds to standard error what only it can tell. */
export function lapidaryTelling(
  tell: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): SpawnSyncReturns<string> {
  const before = `data:text/javascript,${encodeURIComponent(tell)}`;
  const all = ['--import', before, command, ...onOneThread(args)];
  return spawnSync(process.execPath, all, { encoding: 'utf8', env: { ...process.env, ...env } });
}

/**
 * What the command line says to `args`, from its sources in the test's own process: for what hangs on the answer, and not
 * on the process. Once at a time, since the streams are the process's.
 */
export async function answer(args: readonly string[]): Promise<Ended> {
  const heard = { stdout: '', stderr: '' };
  const streams = ['stdout', 'stderr'] as const;
  const writes = streams.map((name) => process[name].write);
  const listeners = process.stdout.listeners('error');
  for (const name of streams) {
    process[name].write = (text: string | Uint8Array) => {
      heard[name] += typeof text === 'string' ? text : Buffer.from(text).toString();
      return true;
    };
  }
  try {
    return { code: await main(onOneThread(args)), ...heard };
  } finally {
    streams.forEach((name, index) => (process[name].write = writes[index]!));
    for (const listener of process.stdout.listeners('error')) {
      if (!listeners.includes(listener)) process.stdout.off('error', listener as () => void);
    }
  }
}

/** The first stories of those that ship, where the amount is not the point. */
export function writeStories(path: string, count: number): void {
  writeFileSync(path, readFileSync(stories, 'utf8').split('\n').slice(0, count).join('\n'));
}

/** A folder that is gone when the tests of a file are over. */
export function scratchFolder(): { readonly path: (name: string) => string; readonly remove: () => void } {
  const folder = mkdtempSync(join(tmpdir(), 'lapidary-test-'));
  return {
    path: (name) => join(folder, name),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}
