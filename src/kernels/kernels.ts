/**
 * Loads the WebAssembly kernels and runs them on the caller's thread and helpers, over one shared memory. Results do
 * not depend on the number of threads: a kernel's items are independent.
 */

import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { LapidaryError } from '../base/errors.ts';
import { defaultThreads } from '../base/threads.ts';
import { attach, control, dataAt, work } from './worker.js';

const page = 65536;
const mostPages = 65536;
/** WebAssembly's vectors and ours start at multiples of this. */
const alignment = 64;
/** Chunks that a thread gets of a job, so that a slow thread holds nobody up for long. */
const chunksPerThread = 4;

export type KernelName =
  | 'transpose'
  | 'fit'
  | 'round'
  | 'compensate'
  | 'fitLevels'
  | 'roundLevels'
  | 'compensateLevels'
  | 'compensateSigns'
  | 'factor'
  | 'pack'
  | 'blockSpans'
  | 'blockScales'
  | 'blockDescents'
  | 'blockLevels'
  | 'sweepParts'
  | 'descendParts'
  | 'proximalStart'
  | 'proximal'
  | 'proximalCodes'
  | 'stepLatents'
  | 'stepRounding';

/** A piece of the shared memory; its arrays are views, valid until the next reset. */
export interface Area {
  readonly at: number;
  readonly bytes: number;
}

/** What one user of the kernels sees, alone. */
export interface Kernels {
  readonly threads: number;
  /** Zeroed or not, as earlier users left it. */
  reserve(bytes: number): Area;
  floats(area: Area): Float32Array;
  bytes(area: Area): Uint8Array;
  ints(area: Area): Int32Array;
  /**
   * Runs a kernel over `items` on all threads.
   * @param scratchBytes of each thread
   */
  run(name: KernelName, items: number, scratchBytes: number, ...values: readonly number[]): void;
  /** Runs a kernel that is not cut, on the caller's thread, and gives its result. */
  call(name: KernelName, ...values: readonly number[]): number;
}

interface Pool extends Kernels {
  reset(): void;
}

let compiled: WebAssembly.Module | undefined;
const pools = new Map<number, { readonly pool: Promise<Pool>; last: Promise<unknown> }>();

/**
 * Runs `use` with kernels that nobody else uses meanwhile; what it reserved is free again afterwards.
 * @param threads the caller's own included; without it as base/threads.ts says
 */
export async function withKernels<T>(
  use: (kernels: Kernels) => Promise<T> | T,
  threads = Math.min(defaultThreads(), 64),
): Promise<T> {
  let entry = pools.get(threads);
  if (!entry) {
    entry = { pool: open(threads), last: Promise.resolve() };
    pools.set(threads, entry);
  }
  const { pool, last } = entry;
  const mine = last.then(async () => {
    const kernels = await pool;
    kernels.reset();
    return use(kernels);
  });
  entry.last = mine.catch(() => undefined);
  return mine;
}

function load(): WebAssembly.Module {
  if (compiled) return compiled;
  const url = new URL('../../kernels/kernels.wasm', import.meta.url);
  try {
    compiled = new WebAssembly.Module(readFileSync(url));
  } catch (cause) {
    const fix = 'npm run build';
    throw new LapidaryError({ what: 'the kernels cannot be loaded', where: url.pathname, fix, cause });
  }
  return compiled;
}

async function open(threads: number): Promise<Pool> {
  const module = load();
  const memory = new WebAssembly.Memory({ initial: 16, maximum: mostPages, shared: true });
  const { names, kernels, words, numbers } = attach(module, memory);
  await Promise.all(Array.from({ length: threads - 1 }, (_, i) => startHelper(module, memory, i + 1)));
  let used = dataAt;

  function reserve(bytes: number): Area {
    const at = used;
    used = Math.ceil((at + bytes) / alignment) * alignment;
    const missing = Math.ceil(used / page) - memory.buffer.byteLength / page;
    if (missing > 0) grow(memory, missing, bytes);
    return { at, bytes };
  }

  const kernelIndex = (name: KernelName): number => {
    const index = names.indexOf(name);
    if (index < 0) throw new Error(`kernels.wasm has no ${name}: npm run build`);
    return index;
  };

  function run(name: KernelName, items: number, scratchBytes: number, ...values: readonly number[]): void {
    const before = used;
    const scratch = reserve(scratchBytes * threads).at;
    used = before;
    numbers.set([scratch, scratchBytes, ...values]);
    words[control.kernel] = kernelIndex(name);
    words[control.items] = items;
    words[control.chunk] = Math.max(1, Math.floor(items / (threads * chunksPerThread)));
    words[control.count] = values.length + 2;
    words[control.next] = 0;
    if (threads > 1 && items > 1) {
      Atomics.store(words, control.gate, 1);
      Atomics.add(words, control.epoch, 1);
      Atomics.notify(words, control.epoch);
    }
    work(kernels, words, numbers, 0);
    Atomics.store(words, control.gate, 0);
    for (let inside = Atomics.load(words, control.inside); inside > 0; ) {
      Atomics.wait(words, control.inside, inside);
      inside = Atomics.load(words, control.inside);
    }
    if (Atomics.exchange(words, control.failed, 0) === 1)
      throw new Error(`kernel ${name} failed in a thread`);
  }

  return {
    threads,
    reserve,
    floats: ({ at, bytes }) => new Float32Array(memory.buffer, at, bytes / 4),
    bytes: ({ at, bytes }) => new Uint8Array(memory.buffer, at, bytes),
    ints: ({ at, bytes }) => new Int32Array(memory.buffer, at, bytes / 4),
    run,
    call: (name, ...values) => kernels[kernelIndex(name)](...values) as number,
    reset: () => {
      used = dataAt;
    },
  };
}

/** Threads start only while this one has nothing to do, so it waits for them once. */
async function startHelper(
  module: WebAssembly.Module,
  memory: WebAssembly.Memory,
  thread: number,
): Promise<void> {
  const worker = new Worker(new URL('./worker.js', import.meta.url), {
    workerData: { lapidaryKernels: { module, memory, thread } },
    execArgv: [],
  });
  await once(worker, 'message');
  // The process may end while threads wait for work.
  worker.unref();
}

function grow(memory: WebAssembly.Memory, pages: number, bytes: number): void {
  try {
    memory.grow(pages);
  } catch (cause) {
    throw new LapidaryError({
      what: 'a matrix does not fit the memory of the kernels',
      found: `${Math.round(bytes / 2 ** 20)} MiB more than 4 GiB or the machine allow`,
      cause,
    });
  }
}
