/** A signal ends the command at any moment, whatever keeps its thread, and leaves no process behind. */

import { spawn } from 'node:child_process';
import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bin, scratchFolder } from './command-line.ts';

const scratch = scratchFolder();
afterAll(() => scratch.remove());
const model = scratch.path('model');

/** Takes minutes, as an honest program may: each of its rounds is one of a conversation's many. */
const template =
  '{% for a in range(9000) %}{% for b in range(9000) %}{% if a == b and a == 8999 %}{{ messages[0].content }}{% endif %}{% endfor %}{% endfor %}';

beforeAll(() => {
  cpSync(fileURLToPath(new URL('../models/pebble', import.meta.url)), model, { recursive: true });
  writeFileSync(join(model, 'chat_template.jinja'), template);
});

function start() {
  const child = spawn(process.execPath, [bin, 'generate', model, 'Once', '--chat', '--threads', '1'], {
    stdio: 'ignore',
    env: { ...process.env, LAPIDARY_LIBRARY_SECONDS: '600' },
  });
  const ended = new Promise<{ code: number | null; signal: string | null }>((resolve) => {
    child.on('exit', (code, signal) => resolve({ code, signal }));
  });
  return { child, ended };
}

/** Those that a process started, and those that they did. */
function descendants(pid: number): number[] {
  try {
    const threads = readdirSync(`/proc/${pid}/task`);
    const own = threads.flatMap((thread) =>
      readFileSync(`/proc/${pid}/task/${thread}/children`, 'utf8').split(' '),
    );
    return own.filter(Boolean).flatMap((child) => [Number(child), ...descendants(Number(child))]);
  } catch {
    return [];
  }
}

function lives(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

/** The library's process is there: the command asks it and sleeps. */
async function library(pid: number): Promise<readonly number[]> {
  for (let turn = 0; turn < 1200; turn++) {
    const all = descendants(pid);
    const names = all.map((each) => readFileSync(`/proc/${each}/cmdline`, 'utf8'));
    if (names.some((name) => name.includes('guard'))) return all;
    await setTimeout(50);
  }
  throw new Error('no process of a library');
}

/** What lives on would do so for minutes; half a minute is for a busy machine. */
async function allGone(pids: readonly number[]): Promise<boolean> {
  for (let turn = 0; turn < 300 && pids.some(lives); turn++) await setTimeout(100);
  return !pids.some(lives);
}

describe.skipIf(process.platform !== 'linux')('a command whose thread hears nothing', () => {
  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const)('is ended by %s, with all that it started, and exit code %i', async (signal, code) => {
    const { child, ended } = start();
    const all = await library(child.pid!);
    await setTimeout(1000);
    child.kill(signal);
    const begun = Date.now();
    expect(await ended).toEqual({ code, signal: null });
    expect(Date.now() - begun).toBeLessThan(60_000);
    expect(all.length).toBeGreaterThan(1);
    expect(await allGone(all)).toBe(true);
  });

  it('is ended at once by the second signal', async () => {
    const { child, ended } = start();
    const all = await library(child.pid!);
    child.kill('SIGINT');
    await setTimeout(200);
    child.kill('SIGINT');
    expect(await ended).toEqual({ code: 130, signal: null });
    expect(await allGone(all)).toBe(true);
  });

  it('does not outlive the process that was called', async () => {
    const { child, ended } = start();
    const all = await library(child.pid!);
    child.kill('SIGKILL');
    expect(await ended).toEqual({ code: null, signal: 'SIGKILL' });
    expect(await allGone(all)).toBe(true);
  });
});

it.skipIf(process.platform === 'win32')(
  'cleans up where one Ctrl-C arrives twice, as from timeout',
  async () => {
    const out = scratch.path('out');
    const child = spawn(process.execPath, [bin, 'compress', '--out', out, '--threads', '1', '--no-speed']);
    let said = '';
    const ended = new Promise<number | null>((resolve) => void child.on('exit', resolve));
    await new Promise<void>((resolve) => {
      child.stderr.on('data', (data: Buffer) => {
        said += data.toString();
        if (said.includes('Chosen')) resolve();
      });
    });
    child.kill('SIGINT');
    await setTimeout(20);
    child.kill('SIGINT');
    expect(await ended).toBe(130);
    expect(said).toContain('error: interrupted');
    expect(said).not.toContain('ended at once');
    expect(readdirSync(scratch.path('')).filter((name) => name.endsWith('.partial'))).toEqual([]);
  },
);
