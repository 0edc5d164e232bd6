/**
 * How fast what is made of a GGUF file runs in ONNX Runtime, against llama.cpp with the GGUF file itself, and against
 * the file as it is, exported.
 *
 *   npx tsx bench/engines/llama.ts MODEL.gguf [--rounds 5] [--threads 1] [--steps keep | '[{"method": "hqq"}]' ...]
 *
 * All run in turn, round by round, and the least times count, since whatever else the machine does only adds to them.
 * One JSON line each: `decode` and `prompt` are tokens a second, times llama.cpp's and times the original's. Needs
 * node-llama-cpp: node test/engines/install.js.
 */

import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { applyRecipe } from '../../src/run/apply.ts';
import { openFile } from '../../src/evaluate/file.ts';
import { findLlama } from '../../src/export/llama/find.ts';
import { askLlama } from '../../src/export/llama/process.ts';
import type { ExportOptions } from '../../src/export/graph.ts';
import { exportTransformers } from '../../src/export/transformers.ts';
import { fitted } from '../../src/formats/fitted.ts';
import { formats } from '../../src/formats/index.ts';
import type { StepInput } from '../../src/contract/method.ts';
import type { Model } from '../../src/models/model.ts';
import { openForCompression } from '../../src/open.ts';
import { checkRecipe } from '../../src/recipe/recipe.ts';
import { fresh, leastTimes, rounded } from './times.ts';

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string', default: '5' },
    threads: { type: 'string', default: '1' },
    steps: { type: 'string', multiple: true, default: ['keep', '[{"method": "hqq"}]'] },
  },
});
const [rounds, threads] = [Number(flags.rounds), Number(flags.threads)];
const [path] = positionals as [string];
const llama = await findLlama({ from: 'test/engines/llama' });
if ('missing' in llama) throw new Error(llama.missing);
if (!existsSync(path)) throw new Error(`${path} is not here`);

const original = await openForCompression(path, { warn: () => {} });

async function open(model: Model, options: ExportOptions) {
  const folder = mkdtempSync(join(tmpdir(), 'lapidary-bench-'));
  try {
    const [file] = exportTransformers(model, folder, { files: [options] });
    return {
      bytes: file!.bytes,
      runner: await openFile(join(folder, file!.path), { threads }),
      least: fresh(),
    };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** What is there as it is, or the blocks by some steps and the embedding at 8 bits. */
function stepsOf(text: string): StepInput[] {
  const embeddings = { method: 'rtn', bits: 8, group: 32, targets: ['embeddings'] };
  if (text !== 'keep') return [...(JSON.parse(text) as StepInput[]), embeddings];
  return [fitted({ method: 'keep', targets: ['blocks', 'embeddings'] }, formats.onnx)];
}

const contenders = [{ name: 'original', level: 0, ...(await open(original.model, {})) }];
for (const text of flags.steps) {
  const recipe = checkRecipe({ model: path, steps: stepsOf(text) });
  const { model } = await applyRecipe(original.model, recipe, { calibration: [] }, {});
  for (const level of [0, 4] as const)
    contenders.push({ name: text, level, ...(await open(model, { accuracyLevel: level })) });
}
const peer = fresh();
for (let round = 0; round < rounds; round++) {
  for (const { runner, least } of contenders) await leastTimes(runner, least);
  const question = { path, prompt: 64, tokens: 2, runs: 3 };
  for (const { prefill, decode } of await askLlama(llama.entry, 'times', question, { threads })) {
    peer.prompt = Math.min(peer.prompt, 1000 * prefill);
    peer.decode = Math.min(peer.decode, 500 * decode);
  }
}
for (const { name, level, bytes, runner, least } of contenders) {
  await runner.close();
  const base = contenders[0]!.least;
  console.log(
    JSON.stringify({
      bench: 'engines/llama',
      steps: name,
      level,
      threads,
      rounds,
      bytes,
      decode: { llama: rounded(peer.decode / least.decode), original: rounded(base.decode / least.decode) },
      prompt: { llama: rounded(peer.prompt / least.prompt), original: rounded(base.prompt / least.prompt) },
      tokenMs: rounded(least.decode),
    }),
  );
}
