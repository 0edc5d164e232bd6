/** GGUF, one file that llama.cpp and what is built on it run. */

import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { LapidaryError } from '../base/errors.ts';
import { elementCount } from '../base/tensor.ts';
import { blocksOf } from '../encodings/blocks/index.ts';
import type { Encoding } from '../encodings/encoding.ts';
import { encodedBytes } from '../encodings/encoding.ts';
import { contentsOf, exportGguf, fileTypeOf, inBlocks } from '../export/gguf-write.ts';
import { verifyGguf } from '../export/gguf.ts';
import { findLlama } from '../export/llama/find.ts';
import { floatNames } from '../export/safetensors/floats.ts';
import { greedyLlama } from '../export/llama/greedy.ts';
import { measureLlamaSpeed } from '../export/llama/speed.ts';
import { verifyLlama } from '../export/llama/verify.ts';
import type { Target } from '../calibrate/targets.ts';
import { ggufBytes } from '../io/gguf/write.ts';
import { ggufFileTypes } from '../models/gguf-mixes.ts';
import { ggufOf } from '../models/gguf-write.ts';
import type { Model } from '../models/model.ts';
import { openModel } from '../open.ts';
import type { Recipe } from '../recipe/recipe.ts';
import { isCompression } from '../recipe/steps.ts';
import { checkSteps } from './check.ts';
import { checkMatrix } from './holds.ts';
import type { Check } from '../export/written.ts';
import type { Format } from './format.ts';
import { fallbackLines } from './fallbacks.ts';
import { ggufCard } from './gguf-card.ts';
import { checkVocabulary, vocabularyNotes } from './gguf-vocabulary.ts';
import { blocks } from './recommend.ts';

export const gguf: Format = {
  label: 'GGUF for llama.cpp',
  engines: { 'llama.cpp': {}, 'node-llama-cpp': {}, ollama: {}, 'lm-studio': {} },
  withoutWindows: 'llama.cpp',
  recommend: blocks,
  types: {
    ...Object.fromEntries(Object.keys(ggufFileTypes).map((type) => [type, { options: { type } }])),
    ...Object.fromEntries(
      (['F16', 'BF16', 'F32'] as const).map((floats) => [floats, { export: { floats } }]),
    ),
  },
  grids: { offsets: true, wideScales: true },
  // Q8_0's zero point is always the middle; Q4_1's minima are float16.
  fitting: ({ bits }) => ({ form: 'stored', ...(bits === 8 ? { symmetric: true } : { scales: 'short' }) }),
  // Integers of other methods; ggml's own types have every width.
  storedBits: ({ bits }) => Math.max(4, bits),
  floats: ({ floats }) => floatNames[floats],
  foretell: (recipe, model) => [...fallbackLines(recipe, model), ...inputLines(recipe)],
  stored: blocksOf,
  size(outline, { calibration, export: { floats } }, { name, origin }) {
    const { metadata, tensors } = contentsOf(outline, { name, origin, floats });
    const wide = floats === 'F32' ? 4 : 2;
    const matrices = [...outline.matrices].map(([name, encoding]): [string, number] => [
      name,
      encoding.bits < 16 ? encodedBytes(encoding) : wide * elementCount(encoding.shape),
    ]);
    // An importance matrix is told of in the file.
    const about = calibration.imatrix !== undefined;
    return { bytes: ggufBytes(metadata, tensors), matrices: new Map(matrices), about };
  },
  async check(recipe, original) {
    // Writes nothing: it says whether llama.cpp computes this architecture, and knows this tokenizer.
    ggufOf(original.model, { name: original.name, floats: recipe.export.floats });
    checkVocabulary(original);
    await checkSteps(recipe, original, { fits, holds });
  },
  holds,
  async write(job) {
    const { recipe, original, compressed, folder, scratch, session, progress, signal, texts, note } = job;
    const { importance, tokenizer } = job;
    const { floats } = recipe.export;
    const written = inBlocks(compressed);
    const type = labelOf(recipe) ?? fileTypeOf(written)?.name ?? floats;
    const path = `${original.name}-${type}.gguf`;
    const file = join(folder, path);
    const plain = join(scratch, 'original.gguf');
    progress({ phase: 'write', done: 0, total: 1 });
    const { name, origin } = original;
    await exportGguf(written, file, { name, origin, floats, importance, warn: note });
    for (const line of widened(compressed, written)) note(line);
    progress({ phase: 'verify', done: 0, total: 2 });
    const ids = withinWindows(texts.verification, written);
    const checks: Check[] = [{ engine: 'Lapidary', ...(await verifyGguf(file, written, ids)) }];
    const llama = await findLlama({ signal });
    if ('missing' in llama) note(`Not loaded in llama.cpp: ${llama.missing}.`);
    else checks.push(await verifyLlama(llama, file, written, ids, { ...session, signal }));
    const reader = 'missing' in llama ? undefined : llama;
    for (const line of await vocabularyNotes({ ...original, model: compressed, tokenizer }, file, reader, {
      ...session,
      signal,
    }))
      note(line);
    const opened = await openModel(file);
    return {
      file: { path, type, bytes: statSync(file).size },
      checks,
      opened: { ...opened, tokenizer },
      stored: opened.model,
      race:
        'missing' in llama
          ? undefined
          : {
              engine: llama.engine,
              writeOriginal: async () => {
                if (!existsSync(plain))
                  await exportGguf(original.model, plain, { name: original.name, floats });
                return plain;
              },
              measure: (path, options) => measureLlamaSpeed(llama, path, options),
              greedy: (path, prompts, options) => greedyLlama(llama, path, prompts, options),
            },
    };
  },
  card: ggufCard,
};

/** Codes that no block of ggml is as narrow as: who asked for few bits gets more than that. */
function widened(compressed: Model, written: Model): Set<string> {
  const lines = new Set<string>();
  for (const [name, { bits, label, description }] of compressed.matrices) {
    const block = written.matrices.get(name)!;
    // Of integers that was told before the work.
    if (bits >= 16 || block.bits <= bits || description.kind === 'grouped') continue;
    const wide = ((8 * encodedBytes(block)) / elementCount(block.shape)).toFixed(1);
    lines.add(
      `GGUF has no blocks for ${label}: they are stored as ${block.label}, ${wide} bits a weight. --method ggml has types of every size.`,
    );
  }
  return lines;
}

/** Behind a window llama.cpp sees more than the model does, which is told before the work: up to there they agree. */
function withinWindows(ids: Int32Array, { config }: Model): Int32Array {
  return ids.slice(0, Math.min(...config.layers.map(({ window }) => window ?? ids.length)));
}

/** A file has weights alone. */
function inputLines({ steps }: Recipe): string[] {
  const rounding = steps.filter(({ options }) => options.inputBits !== undefined);
  return [...new Set(rounding.map(({ method }) => method.name))].map(
    (name) =>
      `GGUF says nothing of how inputs are rounded: what ${name} rounds them to is lost, and llama.cpp does as it does`,
  );
}

/** What the recipe calls it: "Q4_K_M", where a step makes such a type. */
function labelOf({ steps }: Recipe): string | undefined {
  const type = steps.find(isCompression)?.options.type;
  return typeof type === 'string' ? type : undefined;
}

/** Floats are written in a type that the recipe names. */
function holds(encoding: Encoding, target: Target): void {
  if (encoding.bits < 16) fits(encoding, target);
}

function fits(encoding: Encoding, { shape }: Target): void {
  checkMatrix('gguf', encoding, gguf.label);
  try {
    blocksOf(encoding);
  } catch (error) {
    if (!(error instanceof LapidaryError) || shape[1] % 32 === 0) throw error;
    // A method that chooses by matrix has an answer to rows of any length.
    const fix = `use --method ggml, which takes a type that fits`;
    throw new LapidaryError({ ...error.problem, fix });
  }
}
