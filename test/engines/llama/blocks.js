/**
 * Quantizes by ggml's own code, in a process of its own, since a failed assertion of ggml ends the one it is in:
 *
 *   node blocks.js FOLDER
 *
 * reads FOLDER/jobs.json, [{id, name, size, bytes, columns, values, importance?, out}], and for each quantizes the
 * float32 file `values` to blocks of a type in `out`.blocks and dequantizes those to `out`.values. FOLDER/times.json
 * is how many milliseconds quantizing took, the best of `repeats`.
 */

import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import koffi from 'koffi';

const folder = process.argv[2];
const here = dirname(fileURLToPath(import.meta.url));
const binaries = join(here, 'node_modules', '@node-llama-cpp', 'linux-x64', 'bins', 'linux-x64');
const library = koffi.load(join(binaries, 'libggml-base.so'));
const quantize = library.func(
  'size_t ggml_quantize_chunk(int type, const float *from, void *to, int64_t start, int64_t rows, int64_t columns, const float *importance)',
);
/** @param {string} name */
const read = (name) => new Float32Array(new Uint8Array(readFileSync(join(folder, name))).buffer);

/** @type {any[]} */
const jobs = JSON.parse(readFileSync(join(folder, 'jobs.json'), 'utf8'));
const times = jobs.map((job) => {
  const values = read(job.values);
  const blocks = new Uint8Array((values.length / job.size) * job.bytes);
  const importance = job.importance ? read(job.importance) : null;
  const rows = values.length / job.columns;
  let best = Number.POSITIVE_INFINITY;
  for (let repeat = 0; repeat < (job.repeats ?? 1); repeat++) {
    const start = performance.now();
    quantize(job.id, values, blocks, 0, rows, job.columns, importance);
    best = Math.min(best, performance.now() - start);
  }
  writeFileSync(join(folder, `${job.out}.blocks`), blocks);
  const back = new Float32Array(values.length);
  const name = job.name.toLowerCase().replace(/_k$/, '_K');
  library.func(`void dequantize_row_${name}(const void *from, void *to, int64_t count)`)(
    blocks,
    back,
    back.length,
  );
  writeFileSync(join(folder, `${job.out}.values`), new Uint8Array(back.buffer));
  return best;
});
writeFileSync(join(folder, 'times.json'), JSON.stringify(times));
