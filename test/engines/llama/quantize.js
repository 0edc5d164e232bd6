/**
 * llama.cpp's own quantizer, in a process of its own:
 *
 *   node quantize.js < [{"from": "a.gguf", "to": "b.gguf", "fileType": 15, "threads": 1, "importance": [{name, size, file?}]}, ...]
 *
 * The importance of a tensor is `size` float32 values in `file`, or 1 for each column where none is given.
 */

import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import koffi from 'koffi';

const here = dirname(fileURLToPath(import.meta.url));
const binaries = join(here, 'node_modules', '@node-llama-cpp', 'linux-x64', 'bins', 'linux-x64');

koffi.struct('Importance', { name: 'const char *', data: 'const float *', size: 'size_t' });
koffi.struct('Params', {
  threads: 'int32_t',
  fileType: 'int32_t',
  outputType: 'int32_t',
  embeddingType: 'int32_t',
  allowRequantize: 'bool',
  quantizeOutput: 'bool',
  onlyCopy: 'bool',
  pure: 'bool',
  keepSplit: 'bool',
  dryRun: 'bool',
  importance: 'Importance *',
  metadataOverrides: 'void *',
  tensorOverrides: 'void *',
  prunedLayers: 'void *',
  // Newer versions have a size here; where they do not, nobody reads it.
  mostBytes: 'size_t',
});

const name = readdirSync(binaries).find((file) => /^libllama\.(v.*\.)?so$/.test(file));
const library = koffi.load(join(binaries, `${name}`));
library.func('void llama_backend_init()')();
const defaults = library.func('Params llama_model_quantize_default_params()')();
const quantize = library.func(
  'uint32_t llama_model_quantize(const char *from, const char *to, const Params *params)',
);
for (const { from, to, threads, fileType, importance } of JSON.parse(readFileSync(0, 'utf8'))) {
  const entries = importance?.length ? koffi.as(importanceOf(importance), 'Importance *') : null;
  const status = quantize(from, to, { ...defaults, threads, fileType, mostBytes: 0, importance: entries });
  if (status !== 0) process.exit(status);
}

/** @param {{ name: string, size: number, file?: string }[]} tensors @returns ended by one without a name */
function importanceOf(tensors) {
  const read = (/** @type {string} */ file) => new Float32Array(new Uint8Array(readFileSync(file)).buffer);
  const found = tensors.map(({ name, size, file }) => ({
    name,
    data: file ? read(file) : new Float32Array(size).fill(1),
    size,
  }));
  return [...found, { name: null, data: null, size: 0 }];
}
