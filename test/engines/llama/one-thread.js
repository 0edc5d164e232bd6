/**
 * Loaded before a script (node --import): llama.cpp takes one thread in it, where it would take one a core. Its threads
 * wait for each other by turning, and tests of another file have the other core.
 */

import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const installed = join(dirname(fileURLToPath(import.meta.url)), 'node_modules', 'node-llama-cpp');

// Not in the process that tries the binary: what it loads first is its own.
if (process.send === undefined) {
  const { Llama } = await import(pathToFileURL(join(installed, 'dist/bindings/Llama.js')).href);
  const create = Llama._create.bind(Llama);
  Llama._create = (/** @type {object} */ options) => create({ ...options, maxThreads: 1 });
}
