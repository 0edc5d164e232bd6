/**
 * Reads files changed at random through every reader, a million without other words:
 *
 *   npx tsx scripts/fuzz/run.ts [--cases 1000000] [--seed 1] [--processes 2] [--only NAME] [--case INDEX]
 *
 * Each process works on one reader at a time and tells which case it is at; one that says nothing for half a minute is
 * ended, and the case it was at is a failure. With --only and --case a single one is read again.
 */

import { fork } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { Failure, Outcome } from './fuzz.ts';
import { fuzz } from './fuzz.ts';
import { readers } from './readers.ts';

const { values } = parseArgs({
  options: {
    cases: { type: 'string', default: '1000000' },
    seed: { type: 'string', default: '1' },
    processes: { type: 'string', default: String(availableParallelism()) },
    only: { type: 'string' },
    case: { type: 'string' },
  },
});
const seed = Number(values.seed);
const silenceMilliseconds = 30_000;
/** A process takes so many cases of a reader at a time. */
const atOnce = 2000;

interface Task {
  readonly reader: number;
  readonly from: number;
  readonly count: number;
}

const folder = mkdtempSync(join(tmpdir(), 'lapidary-fuzz-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
// What hangs a library is ended, and counts as refused.
process.env.LAPIDARY_LIBRARY_SECONDS ??= '1';
process.env.LAPIDARY_LIBRARY_MIB ??= '1024';
const all = await readers(folder);

if (process.send) {
  process.on('message', async ({ reader, from, count }: Task) => {
    let told = 0;
    const outcome = await fuzz(all[reader]!, { seed, from, count }, (index) => {
      if (Date.now() - told < 100) return;
      told = Date.now();
      process.send!({ index });
    });
    process.send!({ outcome });
  });
  process.on('disconnect', () => process.exit());
  process.send({ ready: true });
} else {
  const failures = values.case === undefined ? await lead() : await again(Number(values.case));
  for (const { reader, index, what } of failures)
    console.log(`${reader}, case ${index} of seed ${seed}: ${what}`);
  process.exit(failures.length > 0 ? 1 : 0);
}

function chosen(): number[] {
  return [...all.keys()].filter((index) => values.only === undefined || all[index]!.name === values.only);
}

async function again(index: number): Promise<readonly Failure[]> {
  const found = await Promise.all(
    chosen().map((reader) => fuzz(all[reader]!, { seed, from: index, count: 1 })),
  );
  return found.flatMap(({ failures }) => failures);
}

async function lead(): Promise<readonly Failure[]> {
  const each = Math.ceil(Number(values.cases) / chosen().length);
  const tasks = chosen().flatMap((reader) =>
    Array.from({ length: Math.ceil(each / atOnce) }, (_, part): Task => {
      const from = part * atOnce;
      return { reader, from, count: Math.min(atOnce, each - from) };
    }),
  );
  const totals = new Map(chosen().map((index) => [all[index]!.name, { read: 0, refused: 0, failed: 0 }]));
  const failures: Failure[] = [];
  const count = (task: Task, outcome: Outcome) => {
    const total = totals.get(all[task.reader]!.name)!;
    total.read += outcome.read;
    total.refused += outcome.refused;
    total.failed += outcome.failures.length;
    failures.push(...outcome.failures);
  };
  const began = Date.now();
  await Promise.all(Array.from({ length: Number(values.processes) }, () => work(tasks, count)));
  console.table(Object.fromEntries(totals));
  console.log(`${each * chosen().length} cases in ${Math.round((Date.now() - began) / 1000)} s`);
  return failures;
}

/** One process after the other, until there are no tasks. */
async function work(tasks: Task[], count: (task: Task, outcome: Outcome) => void): Promise<void> {
  for (let task = tasks.shift(); task;) {
    const ended = await inProcess(task, () => tasks.shift(), count);
    // Behind the case that ended it.
    const left = ended && ended.task.from + ended.task.count - ended.index - 1;
    task = ended && left ? { ...ended.task, from: ended.index + 1, count: left } : tasks.shift();
  }
}

/** @returns where the process ended before its work did */
function inProcess(first: Task, next: () => Task | undefined, count: (task: Task, outcome: Outcome) => void) {
  const child = fork(fileURLToPath(import.meta.url), process.argv.slice(2), {
    execArgv: [...process.execArgv, '--max-old-space-size=1024'],
  });
  let task: Task | undefined = first;
  let index = first.from;
  let timer = setTimeout(() => {}, 0);
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(() => child.kill('SIGKILL'), silenceMilliseconds);
  };
  alive();
  return new Promise<{ readonly task: Task; readonly index: number } | undefined>((resolve) => {
    child.on('message', (message: { ready?: true; index?: number; outcome?: Outcome }) => {
      alive();
      if (message.index !== undefined) index = message.index;
      if (message.outcome) {
        count(task!, message.outcome);
        task = next();
      }
      if (task && (message.ready || message.outcome)) {
        index = task.from;
        child.send(task);
      }
      if (!task) child.disconnect();
    });
    child.on('exit', (code, signal) => {
      clearTimeout(timer);
      if (!task) return resolve(undefined);
      const what = `its process ended with ${signal ?? `exit code ${code}`} at this case or soon behind it`;
      count(task, { read: 0, refused: 0, failures: [{ reader: all[task.reader]!.name, seed, index, what }] });
      resolve({ task, index });
    });
  });
}
