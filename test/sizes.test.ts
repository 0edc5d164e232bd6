/** What formats cannot hold, or their engines do not compute: widths that no group divides, windows of attention. */

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { compress } from '../src/compress.ts';
import { expressionOf } from '../src/formats/check.ts';
import { checkRecipe } from '../src/recipe/recipe.ts';
import { answer, scratchFolder, writeStories } from './command-line.ts';
import { writeTinyCheckpoint } from './models/checkpoint.ts';

const scratch = scratchFolder();
const [odd, text] = [scratch.path('odd'), scratch.path('text.jsonl')];
const sizes = ['--sequences', '2', '--length', '32', '--no-speed', '--no-answers'];
const configOf = (folder: string) => JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'));

beforeAll(async () => {
  await writeTinyCheckpoint(odd, { intermediate_size: 44, num_hidden_layers: 2 });
  writeStories(text, 20);
});
afterAll(scratch.remove);

/** By format: what it cannot hold of down_proj [64, 44] and gate_proj, up_proj [44, 64], and how its settings say so. */
const formats = [
  ['mlx', 'down_proj', () => []],
  ['gptq', '{gate_proj,up_proj,down_proj}', (c) => Object.keys(c.quantization_config.dynamic)],
  ['awq', '{gate_proj,up_proj,down_proj}', (c) => c.quantization_config.modules_to_not_convert],
  ['compressed-tensors', 'down_proj', (c) => c.quantization_config.ignore],
] as const satisfies readonly (readonly [
  string,
  string,
  (config: ReturnType<typeof configOf>) => readonly string[],
])[];

it('rows that fill no block of Q8_0 are told as such, and no narrower type is called better', async () => {
  const args = ['--format', 'gguf', '--type', 'Q8_0', '--fit', 'plain', '--memory'];
  const { code, stdout, stderr } = await answer(['compress', odd, ...args]);
  expect(code, stderr).toBe(0);
  expect(stdout + stderr).toMatch(/2 of \d+ matrices have rows that are no multiple of 32 weights/);
  expect(stdout + stderr).not.toContain('Best at such widths');
});

describe.each(formats)('rows that no group divides, written as %s', (format, names, listed) => {
  it('are refused with what to type, and left in floats by that very text', async () => {
    const out = scratch.path(`${format}-also`);
    const args = [
      'compress',
      odd,
      '--format',
      format,
      '--method',
      'rtn',
      '--no-speed',
      '--no-answers',
      '--out',
      out,
    ];
    args.push('--group', '32', '--range', 'minmax');
    const refused = await answer(args);
    expect(refused.code).toBe(3);
    const [, kept] = /--also "(.*)"/.exec(refused.stderr)!;
    expect(kept).toBe(`${names} keep`);
    const { code, stdout, stderr } = await answer([...args, '--also', kept!]);
    expect(code, stderr).toBe(0);
    expect(stdout).toMatch(/as float16/);
  });

  it('stay in floats by themselves where the recipe is recommended, told before the work and listed', async () => {
    const out = scratch.path(`${format}-own`);
    const args = ['compress', odd, '--format', format, '--calibration', text, ...sizes, '--out', out];
    const { code, stderr } = await answer(args);
    expect(code, stderr).toBe(0);
    expect(stderr).toContain(`${names}, left in floats`);
    const wanted = names.replace(/[{}]/g, '').split(',');
    const list = listed(configOf(out)).map((name: string) => name.replaceAll('\\', ''));
    for (const name of format === 'mlx' ? [] : wanted)
      for (const layer of [0, 1])
        expect(list.some((each: string) => each.includes(`model.layers.${layer}.mlp.${name}`))).toBe(true);
    expect(readFileSync(join(out, 'recipe.yaml'), 'utf8')).toContain('method: keep');
  });
});

describe('matrices as a target names them', () => {
  const all = ['a.0.attn.c_proj', 'a.0.mlp.c_proj', 'a.1.attn.c_proj', 'a.1.mlp.c_proj', 'a.0.c_fc', 'head'];

  it('are the end of their names where all that end so are meant, else the whole', () => {
    expect(expressionOf(['a.0.attn.c_proj', 'a.1.attn.c_proj'], all)).toBe('attn.c_proj');
    expect(expressionOf(['a.0.c_fc', 'head'], all)).toBe('{c_fc,head}');
    expect(expressionOf(['a.1.mlp.c_proj'], all)).toBe('1.mlp.c_proj');
  });
});

describe('a window smaller than the context', () => {
  const recipe = (model: string, format: string) =>
    checkRecipe({ model, steps: [{ method: 'rtn', group: 32, scales: 'short' }], export: { format } });

  it.each([
    ['mlx', true],
    ['gguf', true],
    ['onnx', false],
    ['compressed-tensors', false],
  ])('is told before the work where engines do not compute it: %s', async (format, isTold) => {
    const model = scratch.path('windowed');
    await writeTinyCheckpoint(model, { model_type: 'mistral', sliding_window: 16, num_hidden_layers: 1 });
    const warnings: string[] = [];
    const warn = (line: string) => void warnings.push(line);
    const run = {
      recipe: recipe(model, format),
      out: scratch.path(`window-${format}`),
      speed: false,
      answers: false,
      warn,
    };
    const { notes } = await compress({ ...run, threads: 1 });
    const told = expect.stringMatching(/sees all positions, not a window of 16/);
    for (const lines of [warnings, notes])
      expect(lines).toEqual(isTold ? expect.arrayContaining([told]) : expect.not.arrayContaining([told]));
  });
});

const cases = '../shared/cases';
describe.skipIf(!existsSync(cases))('the cases of ../shared (skipped where it is not there)', () => {
  it.each(formats)('odd-width is written as %s', async (format) => {
    const args = ['compress', `${cases}/odd-width`, '--format', format, ...sizes];
    const texts = ['--calibration', `${cases}/texts/plain.jsonl`, '--out', scratch.path(`case-${format}`)];
    const { code, stderr } = await answer([...args, ...texts]);
    expect(code, stderr).toBe(0);
    expect(stderr).toContain('left in floats');
  });

  it('window-mlx says that mlx-lm sees all', async () => {
    const args = [
      'compress',
      `${cases}/window-mlx`,
      '--for',
      'mlx',
      '--method',
      'rtn',
      '--no-speed',
      '--no-answers',
    ];
    const { stderr } = await answer([...args, '--out', scratch.path('case-window')]);
    expect(stderr).toContain('mlx-lm sees all positions, not a window of 16');
  });
});
