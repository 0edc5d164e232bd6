/**
 * A thread that runs kernels on shared memory, and the protocol by which threads share one job. Plain JavaScript,
 * because a worker thread starts from the file itself, in the source tree and in the built package alike.
 *
 * The caller writes a job, opens the gate, bumps the epoch and works itself; whoever is awake takes chunks until none
 * is left. Then the caller shuts the gate and waits until nobody is inside. A thread that wakes late finds the gate
 * shut or nothing to do, so nobody ever waits for it.
 */

import { isMainThread, parentPort, workerData } from 'node:worker_threads';

/** Control words: indices into an Int32Array at the start of the memory. */
export const control = {
  epoch: 0,
  gate: 1,
  inside: 2,
  next: 3,
  items: 4,
  chunk: 5,
  kernel: 6,
  count: 7,
  failed: 8,
};
/** Byte offsets of the numbers (float64: scratch area, its bytes a thread, the kernel's arguments) and of free memory. */
const numbersAt = 64;
export const dataAt = 256;

/**
 * Takes chunks of the job until none is left. Which thread takes which does not matter to the result.
 * @param {readonly Function[]} kernels
 * @param {Int32Array} words
 * @param {Float64Array} numbers
 * @param {number} thread
 */
export function work(kernels, words, numbers, thread) {
  const kernel = kernels[words[control.kernel]];
  const items = words[control.items];
  const chunk = words[control.chunk];
  const [scratch, scratchBytes, ...rest] = numbers.slice(0, words[control.count]);
  for (;;) {
    const first = Atomics.add(words, control.next, chunk);
    if (first >= items) return;
    kernel(first, Math.min(first + chunk, items), scratch + thread * scratchBytes, ...rest);
  }
}

/**
 * An instance of the kernels over a memory, in the order of their names, with views of its control area.
 * @param {WebAssembly.Module} module
 * @param {WebAssembly.Memory} memory
 */
export function attach(module, memory) {
  const exported = new WebAssembly.Instance(module, { env: { memory } }).exports;
  const names = Object.keys(exported).sort();
  return {
    names,
    kernels: names.map((name) => /** @type {Function} */ (exported[name])),
    words: new Int32Array(memory.buffer, 0, 16),
    numbers: new Float64Array(memory.buffer, numbersAt, 24),
  };
}

/** @param {{ module: WebAssembly.Module, memory: WebAssembly.Memory, thread: number }} data */
function serve({ module, memory, thread }) {
  const { kernels, words, numbers } = attach(module, memory);
  parentPort?.postMessage('ready');
  for (let seen = Atomics.load(words, control.epoch); ; seen = Atomics.load(words, control.epoch)) {
    Atomics.add(words, control.inside, 1);
    try {
      if (Atomics.load(words, control.gate) === 1) work(kernels, words, numbers, thread);
    } catch {
      Atomics.store(words, control.failed, 1);
    }
    Atomics.sub(words, control.inside, 1);
    Atomics.notify(words, control.inside);
    Atomics.wait(words, control.epoch, seen);
  }
}

if (!isMainThread && workerData?.lapidaryKernels) serve(workerData.lapidaryKernels);
