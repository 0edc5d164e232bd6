/** What is quantized already is taken over without loss: chosen by default, or by --method keep. */

import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { equalValues } from '../src/encodings/affine.ts';
import { fitted } from '../src/formats/fitted.ts';
import { formats } from '../src/formats/index.ts';
import { compress, parseRecipe } from '../src/index.ts';
import { openForCompression } from '../src/open.ts';
import { lapidary, scratchFolder, writeStories } from './command-line.ts';
import { writeTinyCheckpoint } from './models/checkpoint.ts';

const scratch = scratchFolder();
afterAll(scratch.remove);
const text = scratch.path('few.jsonl');
writeStories(text, 4);
const sources = new Map<string, string>();

/** The tiny model, written by a recipe. */
async function source(name: string, format: string, steps: readonly { method: string }[]): Promise<void> {
  const out = scratch.path(name);
  const recipe = parseRecipe({ model: scratch.path('tiny'), steps, export: { format } });
  const { file } = await compress({ recipe, out, speed: false });
  sources.set(name, format === 'gguf' ? join(out, file.path) : out);
}

const all = ['blocks', 'embeddings'];
const names = ['Q4_0', 'Q4_1', 'Q8_0', 'gptq', 'awq', 'compressed-tensors', 'mlx'];
beforeAll(async () => {
  await writeTinyCheckpoint(scratch.path('tiny'));
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

const lapidaryOf = (name: string, out: string, ...flags: string[]) =>
  lapidary(['compress', sources.get(name)!, '--no-speed', '--json', '--out', scratch.path(out), ...flags]);

/** As the command line does with --method keep. */
function keeping(name: string, format: keyof typeof formats, out: string, evaluation?: string) {
  const targets = formats[format].keepsTables ? ['blocks'] : all;
  const steps = [fitted({ method: 'keep', targets }, formats[format])];
  const input = { model: sources.get(name)!, steps, export: { format }, evaluation: { data: evaluation } };
  return compress({ recipe: parseRecipe(input), out: scratch.path(out), speed: false });
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
    const { code, stderr } = await lapidaryOf('Q4_1', 'refused', ...keep);
    expect(code).toBe(2);
    expect(stderr).toMatch(/does not hold 56 matrices to the bit(.|\n)*--no-strict/);
    const { code: leniently } = await lapidaryOf('Q4_1', 'lenient', ...keep, '--no-strict');
    expect(leniently).toBe(0);
  });
});

describe('without --method', () => {
  it('keeps four bits, and says so', async () => {
    const { code, stderr, stdout } = await lapidaryOf('Q4_1', 'default');
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
      const { code, stderr, stdout } = await lapidaryOf('Q4_1', 'anew', ...flags, '--overwrite');
      expect(code, stderr).toBe(0);
      expect(JSON.parse(stdout).recipe.steps[0].method).toBe('rtn');
      expect(stderr).toMatch(/start from the original weights(.|\n)*--method keep/);
    }
  });
});
