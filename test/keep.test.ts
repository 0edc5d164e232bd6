/** What is quantized already is taken over without loss: chosen by default, or by --method keep. */

import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { equalValues } from '../src/encodings/affine.ts';
import { fitted } from '../src/formats/fitted.ts';
import { askLlama } from '../src/export/llama/process.ts';
import { verifyLlama } from '../src/export/llama/verify.ts';
import { formats } from '../src/formats/index.ts';
import { writeText } from '../src/generate/generate.ts';
import { compress } from '../src/index.ts';
import { checkRecipe } from '../src/recipe/recipe.ts';
import { logits } from '../src/models/runner.ts';
import { openForCompression } from '../src/open.ts';
import { answer, scratchFolder, writeStories } from './command-line.ts';
import { hasLlama, openLlama } from './engines/llama/llama.ts';
import { maxDifference, numerals } from './engines/models.ts';
import { transformers } from './engines/transformers.ts';
import { writeTinyCheckpoint } from './models/checkpoint.ts';

const scratch = scratchFolder();
afterAll(scratch.remove);
const text = scratch.path('few.jsonl');
writeStories(text, 4);
const sources = new Map<string, string>();

/** The tiny model, written by a recipe. */
async function source(name: string, format: string, steps: readonly { method: string }[]): Promise<void> {
  const out = scratch.path(name);
  const recipe = checkRecipe({ model: scratch.path('tiny'), steps, export: { format } });
  const { file } = await compress({ recipe, out, speed: false, answers: false });
  sources.set(name, format === 'gguf' ? join(out, file.path) : out);
}

const all = ['blocks', 'embeddings'];
const names = ['Q4_0', 'Q4_1', 'Q8_0', 'gptq', 'awq', 'compressed-tensors', 'mlx'];
beforeAll(async () => {
  await writeTinyCheckpoint(scratch.path('tiny'), { num_hidden_layers: 2 });
  const ggml = (type: string) => [{ method: 'ggml', targets: all, type, fit: 'plain', pure: true }];
  await source('Q4_0', 'gguf', ggml('Q4_0'));
  await source('Q4_1', 'gguf', ggml('Q4_1'));
  await source('Q8_0', 'gguf', ggml('Q8_0'));
  const four = { method: 'rtn', targets: ['blocks'], bits: 4, group: 32 };
  await source('gptq', 'gptq', [{ ...four, symmetric: true } as never]);
  await source('awq', 'awq', [four as never]);
  await source('compressed-tensors', 'compressed-tensors', [four as never]);
  await source('mlx', 'mlx', [{ ...four, targets: all, scales: 'short' } as never]);
});

const quick = ['--evaluation', text, '--no-speed', '--no-answers', '--json'];
const commandOf = (name: string, out: string, ...flags: string[]) =>
  answer(['compress', sources.get(name)!, ...quick, '--out', scratch.path(out), ...flags]);

/** As the command line does with --method keep. */
function keeping(name: string, format: keyof typeof formats, out: string, evaluation?: string) {
  const targets = formats[format].keepsTables ? ['blocks'] : all;
  const steps = [fitted({ method: 'keep', targets }, formats[format])];
  const input = { model: sources.get(name)!, steps, export: { format }, evaluation: { data: evaluation } };
  return compress({ recipe: checkRecipe(input), out: scratch.path(out), speed: false, answers: false });
}

describe('--method keep', () => {
  it.each([...names])('%s to ONNX: the file computes what the source does', async (name) => {
    const { notes, compressed } = await keeping(name, 'onnx', `onnx-${name}`, text);
    expect(notes.join('\n')).toContain('without loss');
    expect(compressed.kl!.mean).toBeLessThan(5e-4);
  });

  it.each([
    { name: 'Q4_0', format: 'gptq' },
    { name: 'Q4_0', format: 'awq' },
    { name: 'Q4_0', format: 'mlx' },
    { name: 'Q4_0', format: 'compressed-tensors' },
    { name: 'Q8_0', format: 'gptq' },
    { name: 'Q8_0', format: 'compressed-tensors' },
    { name: 'Q4_1', format: 'mlx' },
    { name: 'gptq', format: 'gguf' },
    { name: 'awq', format: 'gguf' },
    { name: 'mlx', format: 'gguf' },
    { name: 'Q4_1', format: 'gguf' },
  ] as const)('$name to $format: every matrix of the blocks the same', async ({ name, format }) => {
    const out = `${format}-${name}`;
    await keeping(name, format, out);
    const [before, after] = [sources.get(name)!, scratch.path(out)].map((path) => openForCompression(path));
    const { matrices } = (await after).model;
    for (const [key, encoding] of (await before).model.matrices) {
      if (!key.includes('layers')) continue;
      expect(equalValues(matrices.get(key)!.dense(), encoding.dense()), key).toBe(true);
    }
  });

  it('refuses what the format does not hold to the bit, and says what to do', async () => {
    const keep = ['--format', 'gptq', '--method', 'keep'];
    const { code, stderr } = await commandOf('Q4_1', 'refused', ...keep);
    expect(code).toBe(2);
    expect(stderr).toMatch(/does not hold 14 matrices to the bit(.|\n)*--no-strict/);
    const { code: leniently } = await commandOf('Q4_1', 'lenient', ...keep, '--no-strict');
    expect(leniently).toBe(0);
  });
});

const ids = [1, ...Array.from({ length: 15 }, (_, i) => 300 + ((i * 157) % 1600))];
const missing = (there: unknown) => (there ? '' : ' (skipped: run node test/engines/install.js)');

describe.skipIf(!hasLlama)(`what was kept, in llama.cpp${missing(hasLlama)}`, () => {
  it('GGUF to GGUF: the very logits of the source', async () => {
    const { file } = await keeping('Q4_1', 'gguf', 'llama-Q4_1');
    const { entry } = await openLlama();
    const ask = (path: string) => askLlama(entry, 'logits', { path, sequences: [ids] }, { threads: 1 });
    const [before] = await ask(sources.get('Q4_1')!);
    const [after] = await ask(join(scratch.path('llama-Q4_1'), file.path));
    expect(after).toEqual(before);
  });

  it('GPTQ to GGUF: the model of the folder', async () => {
    const { file } = await keeping('gptq', 'gguf', 'llama-gptq');
    const { model } = await openForCompression(sources.get('gptq')!);
    const path = join(scratch.path('llama-gptq'), file.path);
    const llama = await openLlama();
    const { worst } = await verifyLlama(llama, path, model, ids, { threads: 1 });
    // It rounds inputs to eight bits; another four-bit model is refused.
    expect(worst).toBeLessThan(0.2);
    const other = (await openForCompression(sources.get('awq')!)).model;
    await expect(verifyLlama(llama, path, other, ids, { threads: 1 })).rejects.toThrow(
      'does not compute what the model does',
    );
  });
});

describe.skipIf(!transformers)(`what was kept, in transformers.js${missing(transformers)}`, () => {
  it.each(['Q4_1', 'Q8_0'])('%s to ONNX: logits and greedy ids of the source', async (name) => {
    await keeping(name, 'onnx', `engine-${name}`);
    const { model } = await openForCompression(sources.get(name)!);
    const { AutoModelForCausalLM, Tensor } = transformers!;
    const engine = await AutoModelForCausalLM.from_pretrained(scratch.path(`engine-${name}`));
    const tensor = (of: readonly number[]) =>
      new Tensor('int64', BigInt64Array.from(of, BigInt), [1, of.length]);
    const feeds = { input_ids: tensor(ids), attention_mask: tensor(ids.map(() => 1)) };
    const found = (await engine(feeds)).logits!.data as Float32Array;
    const expected = (await logits(model, [ids])).data as Float32Array;
    expect(maxDifference(found, expected) / Math.max(...expected)).toBeLessThan(1e-3);
    const theirs = await engine.generate({ ...feeds, max_new_tokens: 8, do_sample: false });
    const ours = await writeText({ source: model, tokenizer: numerals }, ids.join(' '), { maxTokens: 8 });
    const behind = Array.from(theirs.data as BigInt64Array, Number).slice(ids.length);
    expect(behind.slice(0, ours.ids.length)).toEqual(ours.ids);
    await engine.dispose();
  });
});

describe('without --method', () => {
  it('keeps four bits, and says so', async () => {
    const { code, stderr, stdout } = await commandOf('Q4_1', 'default');
    expect(code, stderr).toBe(0);
    const { recipe, notes } = JSON.parse(stdout);
    expect(recipe.steps).toMatchObject([{ method: 'keep', targets: all }]);
    expect(notes.join('\n')).toContain('matrices are taken over as they are, without loss');
    expect(stderr).not.toContain('start from the original');
  });

  it('compresses anew where fewer bits are asked for, or another method', async () => {
    for (const flags of [
      ['--bits', '2'],
      ['--method', 'rtn'],
    ]) {
      const { code, stderr, stdout } = await commandOf('Q4_1', 'anew', ...flags, '--overwrite');
      expect(code, stderr).toBe(0);
      expect(JSON.parse(stdout).recipe.steps[0].method).toBe('rtn');
      expect(stderr).toMatch(/start from the original weights(.|\n)*--method keep/);
    }
  });
});
