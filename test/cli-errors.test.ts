/** Bad input is answered: what is wrong, where, what was expected, what to do, and an exit code that says whose fault it is. */

import { cpSync, existsSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { stored } from '../src/base/tensor.ts';
import { openSafetensors } from '../src/io/safetensors/read.ts';
import { writeSafetensors } from '../src/io/safetensors/write.ts';
import { answer, lapidary, scratchFolder } from './command-line.ts';

const pebble = fileURLToPath(new URL('../models/pebble', import.meta.url));
const stories = join(pebble, 'stories.jsonl');
const scratch = scratchFolder();
afterAll(scratch.remove);

/** Little text, so that the tests are quick, and no speed of it. */
const quick = ['--sequences', '4', '--length', '32', '--no-speed', '--no-answers'];

describe('bad input is answered', () => {
  it.each([
    [['compress', '--metod', 'gptq'], 2, '--method'],
    [['compres'], 2, 'compress'],
    [['compress', '--method', 'gtpq'], 2, 'did you mean "gptq"'],
    [['compress', '--type', 'Q4_K_M'], 2, 'add --format gguf'],
    [['compress', '--format', 'gguf', '--group', '32'], 2, 'add --method gptq'],
    [['compress', '--format', 'mlx', '--for', 'vllm'], 2, 'vllm does not run MLX'],
    [['compress', '--method', 'gptq+awq'], 2, 'rewrites, then one compressor'],
    [['compress', '--also', 'last'], 2, '--also "last" cannot be read'],
    [['compress', '--also', 'lst bits=8'], 2, 'no matrix of this model is meant by the target "lst"'],
    [['compress', '--floats', 'BF16'], 2, 'for --format gguf'],
    [['compress', '--bits', '5'], 2, 'one of 2, 3, 4, 8'],
    [['compress', '--bits', 'four'], 2, 'number'],
    [['compress', 'no/such/folder/here'], 3, 'no/such/folder/here'],
    [['evaluate', pebble, '--data', '/nowhere.txt'], 3, '/nowhere.txt'],
    [['evaluate', pebble], 2, '--data'],
    [['evaluate', pebble, '--data', stories, '--length', '0'], 2, 'above 0'],
    [['evaluate', pebble, '--data', stories, '--revision', 'main'], 2, 'revision'],
    [['compress', '--sequences', '0'], 2, 'a whole number from 1'],
    [['compress', '--out', ''], 2, '--out'],
    [['nonsense'], 2, '--help'],
  ] as const)('%j', async (args, exitCode, text) => {
    const { code, stdout, stderr } = await answer(args);
    expect(stderr).toContain(text);
    expect(code).toBe(exitCode);
    expect(stdout).toBe('');
  });

  it.each([
    [['compress', '--metod', 'gptq'], 2, '--method'],
    [['compress', '--bits', '5'], 2, 'one of 2, 3, 4, 8'],
    [['compress', 'no/such/folder/here'], 3, 'no/such/folder/here'],
    [['evaluate', pebble, '--data', '/nowhere.txt'], 3, '/nowhere.txt'],
  ] as const)('%j, by its process too', async (args, exitCode, text) => {
    const { code, stdout, stderr } = await lapidary(args);
    expect(stderr).toContain(text);
    expect([code, stdout]).toEqual([exitCode, '']);
  });

  it('an error is a JSON object too', async () => {
    const { code, stdout } = await answer(['compress', '--json', '--method', 'rtm']);
    expect(code).toBe(2);
    expect(JSON.parse(stdout)).toMatchObject({ exitCode: 2, error: { fix: 'did you mean "rtn"?' } });
  });

  it('a flag that is not known too', async () => {
    const { code, stdout } = await answer(['compress', '--json', '--metod', 'rtn']);
    expect(code).toBe(2);
    expect(JSON.parse(stdout)).toEqual({
      error: { what: "unknown option '--metod'", fix: 'Did you mean --method?' },
      exitCode: 2,
    });
  });

  it.each(['', '- a list', 'steps: [', 'calibration: text'])('a recipe that is none: %j', async (text) => {
    const recipe = scratch.path('none.yaml');
    writeFileSync(recipe, text);
    const { code, stderr } = await answer(['compress', '--recipe', recipe]);
    expect(code).toBe(2);
    expect(stderr).toContain('none.yaml');
  });

  it('a mistyped folder, by the one that is near', async () => {
    const near = scratch.path('my-model');
    cpSync(join(pebble, 'config.json'), join(near, 'config.json'));
    for (const typed of [
      scratch.path('my-modle'),
      scratch.path('my-model/').replace('my-model', 'My-Mode'),
    ]) {
      const { code, stderr } = await answer(['inspect', typed]);
      expect(code).toBe(3);
      expect(stderr).toContain('neither a folder nor a hub id');
      expect(stderr).toContain(`did you mean "${near}"?`);
    }
  });

  it('a mistyped folder that could be a hub id, before the hub is asked', async () => {
    const offline = process.env.HF_HUB_OFFLINE;
    process.env.HF_HUB_OFFLINE = '1';
    try {
      const { code, stderr } = await answer(['inspect', 'models/peble']);
      expect(code).toBe(4);
      expect(stderr).toContain('there is no folder models/peble here, only models/pebble');
      expect((await answer(['inspect', 'org/peble'])).stderr).not.toContain('only');
    } finally {
      if (offline === undefined) delete process.env.HF_HUB_OFFLINE;
      else process.env.HF_HUB_OFFLINE = offline;
    }
  });

  it('an exported model where a checkpoint is needed', async () => {
    const exported = scratch.path('exported');
    const made = await answer(['compress', '--method', 'rtn', '--out', exported, ...quick]);
    expect(made.code).toBe(0);
    const { code, stderr } = await answer(['compress', exported, '--method', 'rtn']);
    expect(code).toBe(3);
    expect(stderr).toContain('cannot be compressed again');
  });

  it('an unknown option of a recipe, with the nearest known one', async () => {
    const recipe = scratch.path('recipe.yaml');
    writeFileSync(recipe, 'steps:\n  - method: gptq\n    bitz: 4\n');
    const { code, stderr } = await answer(['compress', '--recipe', recipe]);
    expect(code).toBe(2);
    expect(stderr).toContain('did you mean "bits"');
  });

  it('an empty calibration file', async () => {
    const empty = scratch.path('empty.txt');
    writeFileSync(empty, '');
    const { code, stderr } = await answer(['compress', '--calibration', empty, '--out', scratch.path('x')]);
    expect(code).toBe(3);
    expect(stderr).toContain('empty.txt');
    expect(existsSync(scratch.path('x'))).toBe(false);
  });

  it('a truncated checkpoint', async () => {
    const folder = scratch.path('truncated');
    cpSync(pebble, folder, { recursive: true });
    truncateSync(join(folder, 'model.safetensors'), 100_000);
    const { code, stderr } = await answer(['inspect', folder]);
    expect(code).toBe(3);
    expect(stderr).toContain('model.safetensors');
  });

  it('a weight that is not a number, by its name', async () => {
    const folder = scratch.path('nan');
    cpSync(pebble, folder, { recursive: true });
    const tensors = new Map(openSafetensors(join(pebble, 'model.safetensors')).tensors);
    const name = 'model.layers.1.mlp.up_proj.weight';
    const { dtype, shape } = tensors.get(name)!;
    const bytes = tensors.get(name)!.bytes().slice();
    new DataView(bytes.buffer).setUint16(2 * 1000, 0x7fc0, true);
    tensors.set(name, stored(dtype, shape, bytes));
    await writeSafetensors(join(folder, 'model.safetensors'), tensors);
    const { code, stderr } = await answer([
      'compress',
      folder,
      '--calibration',
      stories,
      '--out',
      scratch.path('y'),
      ...quick,
    ]);
    expect(code).toBe(3);
    expect(stderr).toContain('model.layers.1.mlp.up_proj');
    expect(existsSync(scratch.path('y'))).toBe(false);
  });

  it('a tokenizer that does not match', async () => {
    const folder = scratch.path('tokenizer');
    cpSync(pebble, folder, { recursive: true });
    const tokenizer = JSON.parse(readFileSync(join(folder, 'tokenizer.json'), 'utf8'));
    tokenizer.added_tokens.push({
      id: 99_999,
      content: '<far>',
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    });
    writeFileSync(join(folder, 'tokenizer.json'), JSON.stringify(tokenizer));
    const { code, stderr } = await answer(['generate', folder, 'Once']);
    expect(code).toBe(3);
    expect(stderr).toContain('99999');
  });
});
