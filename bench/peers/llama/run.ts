/**
 * Our files against those of llama.cpp's own quantizer, on the same base at the same bytes: the mean KL divergence from
 * the base on text that neither has seen, with its 95% interval, and the ratio of ours to theirs with its own.
 *
 *   npx tsx bench/peers/llama/run.ts --base FOLDER --calibration FILE --evaluation FILE
 *     [--mixes Q4_0,Q4_K_M,Q3_K_M,Q2_K] [--sequences 64] [--held 16] [--length 512] [--threads N] [--keep FOLDER]
 *
 * llama.cpp quantizes with and without an importance matrix: the mean square of every linear layer's input in the base,
 * over the same calibration tokens. Ours gives each tensor the type that llama.cpp gave it with importance, so that the
 * files are equally large. All are measured alike: opened as GGUF, and run by our own evaluation. Needs what
 * test/engines/install.js installs. FOLDER keeps the files; those of llama.cpp that are there already are used again.
 */

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { readDocuments } from '../../../src/calibrate/data.ts';
import { packSequences } from '../../../src/calibrate/sequences.ts';
import type { Target } from '../../../src/calibrate/targets.ts';
import { walk } from '../../../src/calibrate/walk.ts';
import { modelScorer } from '../../../src/evaluate/blocks.ts';
import { bootstrap } from '../../../src/evaluate/bootstrap.ts';
import type { Evaluation } from '../../../src/evaluate/evaluate.ts';
import { evaluate } from '../../../src/evaluate/evaluate.ts';
import { openGguf } from '../../../src/io/gguf/read.ts';
import { writeGguf } from '../../../src/io/gguf/write.ts';
import type { LinearMethod } from '../../../src/contract/method.ts';
import { ggml } from '../../../src/methods/quantize/ggml.ts';
import { ggufFileTypes } from '../../../src/models/gguf-mixes.ts';
import { ggufFamilies } from '../../../src/models/gguf-names.ts';
import { ggufOf } from '../../../src/models/gguf-write.ts';
import type { Model } from '../../../src/models/model.ts';
import { openModel } from '../../../src/open.ts';
import { remembered } from '../quantizers/tokens.ts';

const { values: flags } = parseArgs({
  options: {
    base: { type: 'string' },
    calibration: { type: 'string' },
    evaluation: { type: 'string' },
    mixes: { type: 'string', default: 'Q4_0,Q4_K_M,Q3_K_M,Q2_K' },
    sequences: { type: 'string', default: '64' },
    held: { type: 'string', default: '16' },
    length: { type: 'string', default: '512' },
    threads: { type: 'string', default: `${availableParallelism()}` },
    keep: { type: 'string' },
  },
});
const { base, calibration, evaluation } = flags;
if (!base || !calibration || !evaluation)
  throw new Error('--base, --calibration and --evaluation are needed');
const [threads, length] = [Number(flags.threads), Number(flags.length)];
const folder = flags.keep ?? mkdtempSync(join(tmpdir(), 'lapidary-peers-'));

async function tokens(path: string, count: number): Promise<readonly Int32Array[]> {
  const { sequences, note } = packSequences((await readDocuments(path)) as string[], opened.tokenizer, {
    length,
    count,
    seed: 0,
  });
  if (note) console.error(note);
  return sequences;
}

interface Importance {
  readonly file: string;
  readonly entries: readonly { readonly name: string; readonly size: number }[];
}

/** As llama-imatrix collects it: of the layers in the blocks, not of the head. */
async function importanceOf(model: Model, sequences: readonly Int32Array[]): Promise<Importance> {
  const entries: { name: string; size: number }[] = [];
  const parts: Float32Array[] = [];
  const watch = ({ name }: Target): LinearMethod => ({
    shape: 'linear',
    name: 'watch',
    summary: 'Leaves a matrix as it is.',
    options: ggml.options,
    statistic: () => 'norm',
    async compress(_, { squares, tokens }) {
      entries.push({ name: theirs(name), size: squares!.length });
      parts.push(squares!.map((square) => square / tokens));
      return model.matrices.get(name)!;
    },
  });
  await walk(model, sequences, {
    threads,
    assign: (target) => (target.place === 'block' ? { method: watch(target), options: {} } : undefined),
  });
  const file = join(folder, 'importance.f32');
  writeFileSync(file, Buffer.concat(parts.map((part) => new Uint8Array(part.buffer))));
  return { file, entries };
}

function theirs(name: string): string {
  const family = ggufFamilies.find(({ modelType }) => modelType === opened.model!.config.modelType);
  return `${family!.theirs(name)}.weight`;
}

async function writeModel(model: Model, path: string): Promise<void> {
  const { metadata, tensors } = ggufOf(model, { name: 'base', floats: 'F16' });
  await writeGguf(path, metadata, tensors);
}

/** @returns the path of what llama.cpp makes of the base */
function peerFile(mix: string, importance?: Importance): string {
  const to = join(folder, `llama-${mix}${importance ? '-importance' : ''}.gguf`);
  if (existsSync(to)) return to;
  const job = { from: baseFile, to, fileType: ggufFileTypes[mix].id, threads, importance };
  const script = fileURLToPath(new URL('../../../test/engines/llama/quantize.js', import.meta.url));
  const { status, stderr } = spawnSync(process.execPath, [script], {
    input: JSON.stringify([job]),
    encoding: 'utf8',
    stdio: ['pipe', 'ignore', 'pipe'],
    maxBuffer: 2 ** 28,
  });
  if (status !== 0) throw new Error(`llama.cpp ended with ${status}: ${stderr.slice(-2000)}`);
  return to;
}

/** The same types, tensor by tensor, with errors compensated. */
async function ourFile(mix: string, like: string, sequences: readonly Int32Array[]) {
  const types = openGguf(like).tensors;
  const assign = ({ name }: Target) => ({
    method: ggml,
    options: ggml.options.parse({ type: types.get(theirs(name))!.type.name, pure: true }),
  });
  const start = performance.now();
  const { model } = await walk(opened.model!, sequences, { threads, assign });
  const seconds = (performance.now() - start) / 1000;
  const path = join(folder, `ours-${mix}.gguf`);
  rmSync(path, { force: true });
  await writeModel(model, path);
  return { path, seconds };
}

async function measured(path: string): Promise<Evaluation> {
  const { model } = await openModel(path);
  const scorer = modelScorer(model!, { threads });
  const characters = held.map(({ length: each }) => each);
  return evaluate({ scorer, against: original, sequences: held, characters, details: true });
}

const show = (value: number): number => Number(value.toPrecision(4));
const total = ({ details }: Evaluation): number[] => details!.sequences.map(({ kl, tokens: n }) => kl * n);

mkdirSync(folder, { recursive: true });
const opened = await openModel(base);
const baseFile = join(folder, 'base.gguf');
if (!existsSync(baseFile)) await writeModel(opened.model!, baseFile);
const sequences = await tokens(calibration, Number(flags.sequences));
const held = await tokens(evaluation, Number(flags.held));
const importance = await importanceOf(opened.model!, sequences);
const original = remembered(modelScorer(opened.model!, { threads }));
try {
  for (const mix of flags.mixes.split(',')) {
    const [plain, weighted] = [peerFile(mix), peerFile(mix, importance)];
    const ours = await ourFile(mix, weighted, sequences);
    const files = { 'llama.cpp': plain, 'llama.cpp with importance': weighted, ours: ours.path };
    const found: Evaluation[] = [];
    for (const [quantizer, path] of Object.entries(files)) {
      const result = await measured(path);
      found.push(result);
      const { mean, low, high } = result.kl!;
      const kl = { mean: show(mean), low: show(low!), high: show(high!) };
      const perplexity = show(result.perplexity.value);
      console.log(
        JSON.stringify({ bench: 'llama.cpp', mix, quantizer, bytes: statSync(path).size, kl, perplexity }),
      );
    }
    const mine = total(found[2]);
    for (const [index, against] of ['llama.cpp', 'llama.cpp with importance'].entries()) {
      const peer = total(found[index]);
      const { low, high } = bootstrap(mine, peer);
      const ratio = found[2].kl!.mean / found[index].kl!.mean;
      const line = { bench: 'llama.cpp', mix, against, ratio: show(ratio), low: show(low), high: show(high) };
      console.log(JSON.stringify({ ...line, seconds: show(ours.seconds) }));
    }
  }
} finally {
  if (!flags.keep) rmSync(folder, { recursive: true });
}
