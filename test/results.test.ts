/** Results and journals that stand where a run is to write: none is lost without a word. */

import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LapidaryError } from '../src/base/errors.ts';
import { compress } from '../src/compress.ts';
import { openJournal } from '../src/io/journal.ts';
import { createOutputFolder } from '../src/io/output.ts';
import type { PlainRecipe } from '../src/recipe/recipe.ts';
import { checkRecipe } from '../src/recipe/recipe.ts';
import { answer, scratchFolder, writeStories } from './command-line.ts';
import { writeTinyCheckpoint } from './models/checkpoint.ts';

const scratch = scratchFolder();
afterAll(scratch.remove);
const [model, other] = [scratch.path('tiny'), scratch.path('other')];
const [text, texts] = [scratch.path('text.jsonl'), scratch.path('texts.jsonl')];
beforeAll(async () => {
  const small = { num_hidden_layers: 2 };
  await writeTinyCheckpoint(model, small);
  await writeTinyCheckpoint(other, small);
  const config = join(other, 'config.json');
  writeFileSync(config, readFileSync(config, 'utf8').replace('"eos_token_id":2', '"eos_token_id":3'));
  writeStories(text, 8);
  writeStories(texts, 12);
});

const plain: PlainRecipe = { steps: [{ method: 'rtn', bits: 4, group: 32 }] };
const run = (out: string, input: PlainRecipe = plain, overwrite?: boolean) =>
  compress({
    recipe: checkRecipe({ model, ...input }),
    out: scratch.path(out),
    overwrite,
    speed: false,
    answers: false,
  });

/** What a run is refused with. */
async function refusal(out: string, input: PlainRecipe): Promise<string> {
  const before = readFileSync(join(scratch.path(out), 'recipe.yaml'), 'utf8');
  const error: unknown = await run(out, input).catch((cause: unknown) => cause);
  expect(error).toBeInstanceOf(LapidaryError);
  expect((error as LapidaryError).exitCode).toBe(2);
  expect((error as LapidaryError).problem.fix).toContain('--overwrite');
  expect(readFileSync(join(scratch.path(out), 'recipe.yaml'), 'utf8')).toBe(before);
  return (error as LapidaryError).problem.what;
}

describe('a folder with a result', () => {
  beforeAll(() => run('result'));

  it('is replaced by the same recipe, whatever its files are called', async () => {
    const moved = scratch.path('moved');
    await writeTinyCheckpoint(moved, { num_hidden_layers: 2 });
    await run('result', { ...plain, model: moved, reason: 'another day' });
  });

  it.each<[string, PlainRecipe]>([
    ['GGUF', { steps: [{ method: 'ggml', type: 'Q4_0', fit: 'plain' }], export: { format: 'gguf' } }],
    ['MLX', { ...plain, export: { format: 'mlx' } }],
  ])('is replaced by the same recipe in %s, which chooses no accuracy level', async (format, input) => {
    await run(format, input);
    await run(format, input);
    expect(await refusal(format, { ...input, seed: 1 })).toContain('another recipe');
  });

  it.each<[string, PlainRecipe, string]>([
    ['with other bits', { steps: [{ ...plain.steps![0]!, bits: 8 }] }, 'another recipe'],
    ['in another format', { ...plain, export: { format: 'mlx' } }, 'another recipe'],
    ['by another method', { steps: [{ method: 'hqq', bits: 4, group: 32 }] }, 'another recipe'],
    ['measured on a text', { ...plain, evaluation: { data: text } }, 'measured on another text'],
    ['of another model', { ...plain, model: other }, "another model's result"],
  ])('is not replaced by one %s', async (_, input, expected) => {
    const what = await refusal('result', input);
    expect(what).toContain(expected);
    expect(what).toContain('(onnx, rtn 4 bits)');
  });

  it('is not replaced by one that is trained besides, or fitted to another text', async () => {
    const settings = { sequences: 2, length: 32 };
    const fitted = (data: string): PlainRecipe => ({
      steps: [{ method: 'gptq', bits: 4, group: 32 }],
      calibration: { data, ...settings },
      evaluation: { ...settings },
    });
    await run('fitted', fitted(text));
    expect(await refusal('fitted', fitted(texts))).toContain('another calibration text (onnx, gptq 4 bits)');
    const trained = {
      ...fitted(text),
      steps: [...fitted(text).steps!, { method: 'block-ap', blockSteps: 1 }],
    };
    expect(await refusal('fitted', trained)).toContain('another recipe');
    // Integer or float activations were chosen there, and are chosen again.
    await run('fitted', fitted(text));
  });

  it('is replaced when told', async () => {
    await run('told');
    const input: PlainRecipe = { steps: [{ method: 'rtn', bits: 8, group: 32 }] };
    await run('told', input, true);
    expect(readFileSync(join(scratch.path('told'), 'recipe.yaml'), 'utf8')).toContain('bits: 8');
  });

  it('is told about on the command line, with what to say', async () => {
    const out = scratch.path('result');
    const args = ['compress', model, '--method', 'rtn', '--bits', '8', '--out', out, '--no-speed'];
    const { code, stderr } = await answer(args);
    expect(code).toBe(2);
    expect(stderr).toContain("the output folder holds another recipe's result (onnx, rtn 4 bits)");
    expect(stderr).toContain('say --overwrite to replace it, or write to another folder: --out NAME');
  });
});

it("somebody else's recipe.yaml does not make a folder ours", async () => {
  mkdirSync(scratch.path('theirs'));
  writeFileSync(join(scratch.path('theirs'), 'recipe.yaml'), 'steps: [{ method: rtn }]');
  await expect(run('theirs')).rejects.toThrow('not empty');
});

describe('the lock of an output', () => {
  it('is told about after what is wrong with flags and files', async () => {
    const out = scratch.path('locked');
    const held = createOutputFolder(out);
    try {
      const args = (...more: string[]) => ['compress', model, '--method', 'rtn', '--out', out, ...more];
      expect((await answer(args('--calibration', scratch.path('none')))).stderr).toContain('no such file');
      expect((await answer(args('--calibration', text, '--field', 'no'))).stderr).toContain('"no"');
      const { code, stderr } = await answer(args());
      expect([code, stderr]).toEqual([4, expect.stringContaining('another run writes this output now')]);
    } finally {
      held.abandon();
    }
  });
});

describe('journals', () => {
  const folder = scratch.path('outputs');
  const left = async (name: string) => {
    const journal = openJournal(join(folder, name), { source: 'm', recipe: plain }, { warn: () => {} });
    await journal.write('block-0', { tensors: new Map(), data: 'x'.repeat(1000) });
  };
  const journals = () => readdirSync(folder).filter((name) => name.endsWith('.journal'));

  it('are listed with what they are of, their size and date', async () => {
    mkdirSync(folder);
    expect((await answer(['journals', folder])).stdout).toContain(`No journals in ${folder}`);
    await left('first');
    const { stdout } = await answer(['journals', folder]);
    expect(stdout).toMatch(/first +1\.\d+ kB +\d{4}-\d\d-\d\d \d\d:\d\d +m: onnx, rtn 4 bits/);
    const [listed] = JSON.parse((await answer(['journals', folder, '--json'])).stdout).journals;
    expect(listed).toMatchObject({ output: join(folder, 'first'), units: 1, inUse: false });
    expect(existsSync(join(folder, '.first.journal'))).toBe(true);
  });

  it('are removed by name, as they are listed or as they lie there', async () => {
    await left('second');
    await left('third');
    const removed = await answer(['journals', folder, '--remove', 'second', join(folder, '.third.journal')]);
    expect(removed.stdout).toMatch(/Removed: 2, 2\.\d+ kB/);
    expect(journals()).toEqual(['.first.journal']);
    const none = await answer(['journals', folder, '--remove', 'second']);
    expect([none.code, none.stderr]).toEqual([2, expect.stringContaining('expected: first')]);
  });

  it('are all removed, but for one that a run uses', async () => {
    await left('busy');
    const held = createOutputFolder(join(folder, 'busy'));
    try {
      expect((await answer(['journals', folder])).stdout).toContain('running now');
      const named = await answer(['journals', folder, '--remove', 'busy']);
      expect([named.code, named.stderr]).toEqual([4, expect.stringContaining('another run writes')]);
      await answer(['journals', folder, '--all']);
      expect(journals()).toEqual(['.busy.journal']);
    } finally {
      held.abandon();
    }
    await answer(['journals', folder, '--all']);
    expect(readdirSync(folder)).toEqual([]);
  });

  it('of a folder that is not there is an error', async () => {
    expect((await answer(['journals', scratch.path('nowhere')])).code).toBe(4);
  });
});
