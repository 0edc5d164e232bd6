/**
 * Asks llama.cpp, which works in child.js. A process that has answered waits a while for the next question, since starting
 * one takes longer than most answers; one that has failed is not asked again.
 */

import type { ChildProcess } from 'node:child_process';
import { fork } from 'node:child_process';
import type { Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { defaultThreads } from '../../base/threads.ts';

export interface LlamaOptions {
  /** All cores without it. */
  readonly threads?: number | undefined;
  /** Ends the process. */
  readonly signal?: AbortSignal | undefined;
}

/** What child.js knows to do, and what it answers. */
interface Jobs {
  readonly release: { readonly question: object; readonly answer: string };
  readonly logits: {
    readonly question: { readonly path: string; readonly sequences: readonly (readonly number[])[] };
    /** Of each sequence, [positions, vocabulary]. */
    readonly answer: readonly Float32Array[];
  };
  readonly tokens: {
    readonly question: { readonly path: string; readonly texts: readonly string[] };
    readonly answer: readonly (readonly number[])[];
  };
  readonly greedy: {
    readonly question: {
      readonly path: string;
      readonly prompts: readonly (readonly number[])[];
      readonly tokens: number;
      readonly ends: readonly number[];
    };
    /** New ids behind each prompt, without what ended them. */
    readonly answer: readonly (readonly number[])[];
  };
  readonly times: {
    readonly question: {
      readonly path: string;
      readonly prompt: number;
      readonly tokens: number;
      readonly runs: number;
    };
    /** Seconds of each run. */
    readonly answer: readonly { readonly prefill: number; readonly decode: number }[];
  };
}

/** llama.cpp did not do what it was asked; the message is its own. */
export class LlamaFailure extends Error {}

/** What it said last is kept, so many characters. */
const mostHeard = 4000;

/** So long without a question, and the process is not kept. */
const idleMilliseconds = 60_000;

interface Worker {
  readonly entry: string;
  readonly child: ChildProcess;
  /** On standard error, since it was asked last. */
  heard: string;
}

/** The process that waits for a question, and what ends it. */
let waiting: { readonly worker: Worker; readonly end: NodeJS.Timeout } | undefined;

/**
 * @param entry the address of node-llama-cpp's module
 * @throws LlamaFailure where llama.cpp refuses or its process ends, the signal's reason where that ended it
 */
export function askLlama<Job extends keyof Jobs>(
  entry: string,
  job: Job,
  question: Jobs[Job]['question'],
  { threads = defaultThreads(), signal }: LlamaOptions = {},
): Promise<Jobs[Job]['answer']> {
  signal?.throwIfAborted();
  const worker = take(entry) ?? start(entry);
  const { child } = worker;
  const stop = () => child.kill('SIGKILL');
  signal?.addEventListener('abort', stop);
  return new Promise<Jobs[Job]['answer']>((resolve, reject) => {
    let refused: string | undefined;
    child.on('message', (reply: { readonly found: Jobs[Job]['answer'] } | { readonly error: string }) => {
      if ('error' in reply) {
        refused = reply.error;
        stop();
      } else {
        keep(worker);
        resolve(reply.found);
      }
    });
    child.on('error', reject);
    child.on('close', (code, killed) => {
      if (signal?.aborted) return reject(signal.reason);
      const end = refused ?? `its process ended with ${killed ?? `exit code ${code}`}`;
      reject(new LlamaFailure([end, lastLines(worker.heard)].filter(Boolean).join(': ')));
    });
    child.send({ entry, threads, job, ...question }, (error) => error && reject(error));
  }).finally(() => signal?.removeEventListener('abort', stop));
}

function start(entry: string): Worker {
  const child = fork(fileURLToPath(new URL('./child.js', import.meta.url)), [], {
    serialization: 'advanced',
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    execArgv: [],
    // A backtrace would follow the message that matters.
    env: { ...process.env, GGML_NO_BACKTRACE: '1' },
  });
  const worker: Worker = { entry, child, heard: '' };
  child.stderr!.setEncoding('utf8').on('data', (text) => {
    worker.heard = (worker.heard + text).slice(-mostHeard);
  });
  return worker;
}

/** The process that waits, where it has that module and lives. */
function take(entry: string): Worker | undefined {
  if (waiting?.worker.entry !== entry) return undefined;
  const { worker, end } = waiting;
  clearTimeout(end);
  waiting = undefined;
  const { child } = worker;
  stopHearing(child);
  if (!child.connected) return undefined;
  for (const each of handles(child)) each?.ref();
  worker.heard = '';
  return worker;
}

/** Lets a process wait, which keeps nobody from ending; it ends when the one that it answers does. */
function keep(worker: Worker): void {
  const { child } = worker;
  waiting?.worker.child.kill('SIGKILL');
  clearTimeout(waiting?.end);
  stopHearing(child);
  child.on('error', () => {});
  for (const each of handles(child)) each?.unref();
  waiting = { worker, end: setTimeout(() => child.kill('SIGKILL'), idleMilliseconds).unref() };
}

function stopHearing(child: ChildProcess): void {
  for (const event of ['message', 'error', 'close']) child.removeAllListeners(event);
}

const handles = (child: ChildProcess) => [child, child.channel, child.stderr as Socket | null];

/** What matters of what it said stands at the end. */
function lastLines(heard: string): string {
  const lines = heard.split('\n').filter((line) => line.trim() !== '');
  return [...new Set(lines)].slice(-3).join('; ');
}
