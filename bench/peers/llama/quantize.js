/**
 * llama.cpp's own quantizer, in a process of its own:
 *
 *   node quantize.js < JOB
 *
 * where JOB is {library, from, to, fileType, threads, importance?: {file, entries: [{name, size}]}}: `library` is libllama,
 * `file` float32, the entries' values one after the other.
 */

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const engine = createRequire(new URL('../../../test/engines/llama/package.json', import.meta.url));
const koffi = engine('koffi');

koffi.struct('Entry', { name: 'const char *', data: 'const float *', size: 'size_t' });
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
  importance: 'Entry *',
  metadataOverrides: 'void *',
  tensorOverrides: 'void *',
  prunedLayers: 'void *',
  // Newer versions have a size here; where they do not, nobody reads it.
  mostBytes: 'size_t',
});

const job = JSON.parse(readFileSync(0, 'utf8'));
const library = koffi.load(job.library);
library.func('void llama_backend_init()')();
const params = library.func('Params llama_model_quantize_default_params()')();
const entries = importanceOf(job.importance);
const status = library.func(
  'uint32_t llama_model_quantize(const char *from, const char *to, const Params *params)',
)(job.from, job.to, {
  ...params,
  threads: job.threads,
  fileType: job.fileType,
  mostBytes: 0,
  importance: entries && koffi.as(entries, 'Entry *'),
});
process.exit(status);

/**
 * Ended by an entry without a name.
 * @param {{ file: string, entries: { name: string, size: number }[] } | undefined} importance
 */
function importanceOf(importance) {
  if (!importance) return null;
  const values = new Float32Array(new Uint8Array(readFileSync(importance.file)).buffer);
  let at = 0;
  const found = importance.entries.map(({ name, size }) => {
    const data = values.slice(at, at + size);
    at += size;
    return { name, data, size };
  });
  return [...found, { name: null, data: null, size: 0 }];
}
