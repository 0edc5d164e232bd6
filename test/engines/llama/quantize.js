/**
 * llama.cpp's own quantizer, in a process of its own:
 *
 *   node quantize.js < [{"from": "a.gguf", "to": "b.gguf", "fileType": 15, "threads": 1, "importance": {file?, entries}}, ...]
 *
 * Entries are [{name, size}]: tensors and their columns. `file` has the importance of each column, float32, one entry after
 * the other; without it all are alike.
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
  const entries = importance ? koffi.as(importanceOf(importance), 'Importance *') : null;
  const status = quantize(from, to, { ...defaults, threads, fileType, mostBytes: 0, importance: entries });
  if (status !== 0) process.exit(status);
}

/**
 * Ended by an entry without a name.
 * @param {{ file?: string, entries: { name: string, size: number }[] }} importance
 */
function importanceOf({ file, entries }) {
  const total = entries.reduce((sum, { size }) => sum + size, 0);
  const values = file
    ? new Float32Array(new Uint8Array(readFileSync(file)).buffer)
    : new Float32Array(total).fill(1);
  let at = 0;
  const found = entries.map(({ name, size }) => {
    const data = values.slice(at, at + size);
    at += size;
    return { name, data, size };
  });
  return [...found, { name: null, data: null, size: 0 }];
}
