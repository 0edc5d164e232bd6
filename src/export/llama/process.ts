/** Asks llama.cpp, which works in child.js: one question, one process, one answer. */

import { fork } from 'node:child_process';
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
  const child = fork(fileURLToPath(new URL('./child.js', import.meta.url)), [], {
    serialization: 'advanced',
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    execArgv: [],
    // A backtrace would follow the message that matters.
    env: { ...process.env, GGML_NO_BACKTRACE: '1' },
  });
  const stop = () => child.kill('SIGKILL');
  signal?.addEventListener('abort', stop);
  let heard = '';
  child.stderr!.setEncoding('utf8').on('data', (text) => {
    heard = (heard + text).slice(-mostHeard);
  });
  return new Promise<Jobs[Job]['answer']>((resolve, reject) => {
    let reply: { readonly found: Jobs[Job]['answer'] } | { readonly error: string } | undefined;
    child.on('message', (message) => {
      reply = message as typeof reply;
    });
    child.on('error', reject);
    child.on('close', (code, killed) => {
      if (signal?.aborted) reject(signal.reason);
      else if (reply && 'found' in reply) resolve(reply.found);
      else {
        const end = reply ? reply.error : `its process ended with ${killed ?? `exit code ${code}`}`;
        reject(new LlamaFailure([end, lastLines(heard)].filter(Boolean).join(': ')));
      }
    });
    child.send({ entry, threads, job, ...question }, (error) => error && reject(error));
  }).finally(() => signal?.removeEventListener('abort', stop));
}

/** What matters of what it said stands at the end. */
function lastLines(heard: string): string {
  const lines = heard.split('\n').filter((line) => line.trim() !== '');
  return [...new Set(lines)].slice(-3).join('; ');
}
