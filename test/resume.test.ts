/**
 * Runs that survive: the real command line is killed outright at 20 points, seeded: in the middle of writes, between
 * the steps of one, and at any time. The same command continues, and in the end every file is what an undisturbed run writes.
 */

import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { random } from '../src/base/random.ts';
import { answer, command, scratchFolder, writeStories } from './command-line.ts';
import { writeTinyCheckpoint } from './models/checkpoint.ts';

const scratch = scratchFolder();
afterAll(scratch.remove);
const model = scratch.path('tiny');
const text = scratch.path('text.jsonl');
const blocks = 4;
const killAt = pathToFileURL(join(import.meta.dirname, 'kill-at.js')).href;

interface Run {
  /** At which step of writing it is to be killed, or after how many milliseconds. */
  readonly step?: number;
  readonly milliseconds?: number;
  /** Text on standard error at which Ctrl-C comes. */
  readonly interrupt?: string;
  readonly threads?: number;
  readonly flags?: readonly string[];
}

interface Ended {
  readonly killed: boolean;
  readonly code: number | null;
  readonly stderr: string;
}

/** Compresses into `folder`/out. */
async function compress(folder: string, run: Run = {}): Promise<Ended> {
  const { step = 0, milliseconds, interrupt, threads = 1, flags = [] } = run;
  mkdirSync(folder, { recursive: true });
  const settings = [
    '--calibration',
    text,
    '--sequences',
    '8',
    '--length',
    '32',
    '--threads',
    String(threads),
    '--no-answers',
  ];
  const args = ['compress', model, ...settings, ...flags, '--out', join(folder, 'out')];
  const child = spawn(process.execPath, ['--import', killAt, command, ...args], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, KILL_AT: String(step), COUNT_TO: `${folder}.steps` },
  });
  const timer =
    milliseconds === undefined ? undefined : setTimeout(() => child.kill('SIGKILL'), milliseconds);
  let stderr = '';
  let sent = false;
  child.stderr.on('data', (data) => {
    stderr += data;
    if (interrupt !== undefined && !sent && stderr.includes(interrupt)) sent = child.kill('SIGINT');
  });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      resolve({ killed: signal === 'SIGKILL', code, stderr });
    });
  });
}

/**
 * Files by name, without what says how long something took; only these say it: `timings` and `speed` of report.json,
 * which report.html holds too, and the rows of tokens a second in README.md.
 */
function contents(folder: string): Record<string, string> {
  const untimed = (value: object) => JSON.stringify({ ...value, timings: undefined, speed: undefined });
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) =>
    entry.isFile(),
  );
  return Object.fromEntries(
    files.map((entry) => {
      const path = join(entry.parentPath, entry.name);
      const bytes = readFileSync(path);
      if (entry.name === 'report.json') return [entry.name, untimed(JSON.parse(bytes.toString()))];
      if (entry.name === 'report.html') {
        const embedded = (json: string) => JSON.parse(json).map(untimed).join();
        return [entry.name, bytes.toString().replace(/\[\{"format":1.*\}\]/, embedded)];
      }
      if (entry.name === 'README.md')
        return [entry.name, bytes.toString().replaceAll(/^.*tokens a second.*$/gm, '')];
      return [path.slice(folder.length + 1), bytes.toString('latin1')];
    }),
  );
}

let undisturbed: Record<string, string>;
let steps = 0;
let milliseconds = 0;

beforeAll(async () => {
  await writeTinyCheckpoint(model, { num_hidden_layers: blocks });
  writeStories(text, 12);
  const started = performance.now();
  const { code, stderr } = await compress(scratch.path('undisturbed'));
  milliseconds = performance.now() - started;
  expect([code, stderr]).toEqual([0, expect.stringContaining('compress: ')]);
  undisturbed = contents(scratch.path('undisturbed/out'));
  steps = Number(readFileSync(scratch.path('undisturbed.steps'), 'utf8'));
  expect(readdirSync(scratch.path('undisturbed'))).toEqual(['out']);
});

/** Units of work that a killed run left for the next. */
function unitsIn(folder: string): number {
  const journal = join(folder, '.out.journal');
  if (!existsSync(journal)) return 0;
  return readdirSync(journal).filter((name) => name.endsWith('.safetensors')).length;
}

interface Chain {
  readonly killed: number;
  /** Units of work that each run found. */
  readonly found: readonly number[];
}

/** Starts the same command again until it is not killed any more. */
async function chain(folder: string, kills: readonly Run[]): Promise<Chain> {
  let killed = 0;
  const found: number[] = [];
  for (const kill of [...kills, {}]) {
    found.push(unitsIn(folder));
    const ended = await compress(folder, kill);
    const out = join(folder, 'out');
    if (ended.killed) killed++;
    else expect(ended).toMatchObject({ code: 0 });
    // Nothing under the final name, or all of it.
    if (!ended.killed || existsSync(out)) expect(contents(out)).toEqual(undisturbed);
    if (!ended.killed) expect(readdirSync(folder)).toEqual(['out']);
  }
  return { killed, found };
}

describe('a run that is killed', () => {
  const numbers = random(20);
  const kills = 20;
  /** Of the steps, in powers: most are small writes of the model's file, and the walk shall be seen too. */
  const stepIn = (from: number, to: number) => Math.ceil(steps ** (from + (to - from) * numbers.uniform()));
  const anyTime = () => (0.1 + 0.6 * numbers.uniform()) * milliseconds;

  it('continues, and writes what an undisturbed run writes: 20 kills at random points', async () => {
    const first: readonly (readonly [from: number, to: number])[] = [
      [0, 0.35],
      [0.35, 0.5],
      [0.5, 0.6],
      [0.75, 1],
    ];
    const plans = first.map(([from, to]): Run[] => [
      { step: stepIn(from, to) },
      { milliseconds: anyTime() },
      { step: stepIn(0, 0.7) },
      { milliseconds: anyTime() },
      { step: stepIn(0.4, 0.9) },
    ]);
    const done: Chain[] = [];
    const waiting = plans.entries();
    const work = async () => {
      for (const [index, plan] of waiting) done.push(await chain(scratch.path(`chain-${index}`), plan));
    };
    await Promise.all([work(), work()]);
    let killed = done.reduce((sum, result) => sum + result.killed, 0);
    // A run that was over before its time is made up for.
    for (let more = 0; killed < kills; more++) {
      killed += (await chain(scratch.path(`more-${more}`), [{ step: stepIn(0, 1) }])).killed;
    }
    const found = done.flatMap((each) => each.found);
    // The blocks and the embedding: runs began with some of them, and with all.
    expect(found.some((units) => units > 0 && units < blocks + 1)).toBe(true);
    expect(Math.max(...found)).toBeGreaterThan(blocks);
  });
});

it('interrupted by Ctrl-C, keeps what was done and says so; another recipe does not take it', async () => {
  const folder = scratch.path('interrupted');
  const ended = await compress(folder, { interrupt: 'compress: ' });
  expect(ended.code).toBe(130);
  expect(ended.stderr).toMatch(/the same command continues/);
  expect([readdirSync(folder), unitsIn(folder)]).toEqual([['.out.journal'], expect.any(Number)]);
  expect(unitsIn(folder)).toBeGreaterThan(blocks);
  const listed = await answer(['journals', folder, '--json']);
  expect(JSON.parse(listed.stdout).journals).toMatchObject([
    { output: join(folder, 'out'), inUse: false, run: 'tiny: onnx, gptq 4 bits' },
  ]);
  const again = await compress(folder, { interrupt: 'Continuing at 100%.' });
  expect(again.stderr).toContain('Continuing at 100%.');
  const other = await compress(folder, { flags: ['--bits', '8'] });
  expect(other).toMatchObject({ code: 0, stderr: expect.stringMatching(/thrown away: .*recipe/) });
  expect(readdirSync(folder)).toEqual(['out']);
});

it('makes the same bytes with another number of threads', async () => {
  const { code } = await compress(scratch.path('threads'), { threads: 2 });
  expect(code).toBe(0);
  expect(contents(scratch.path('threads/out'))).toEqual(undisturbed);
});
