import { createHash } from 'node:crypto';
import { cpSync, existsSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { stored } from '../src/base/tensor.ts';
import { openSafetensors } from '../src/io/safetensors/read.ts';
import { writeSafetensors } from '../src/io/safetensors/write.ts';
import { lapidary, scratchFolder } from './command-line.ts';

const pebble = fileURLToPath(new URL('../models/pebble', import.meta.url));
const stories = join(pebble, 'stories.jsonl');
const scratch = scratchFolder();
afterAll(scratch.remove);

/** Little text, so that the tests are quick. */
const quick = ['--sequences', '4', '--length', '64'];
const sha256 = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex');

describe('compress', () => {
  const out = scratch.path('gptq');

  it('writes a folder that is complete, and one JSON object on standard output', async () => {
    const { code, stdout } = await lapidary(['compress', '--json', '--out', out, ...quick]);
    expect(code).toBe(0);
    const report = JSON.parse(stdout);
    expect(readdirSync(out).sort()).toEqual(
      [
        'README.md',
        'config.json',
        'generation_config.json',
        'onnx',
        'recipe.yaml',
        'tokenizer.json',
        'tokenizer_config.json',
      ].sort(),
    );
    expect(readdirSync(join(out, 'onnx'))).toEqual(['model_q4.onnx']);
    expect(report.compressed.bytes).toBeLessThan(report.original.bytes / 2);
    expect(report.compressed.kl.mean).toBeGreaterThan(0);
    expect(report.compressed.kl.low).toBeLessThanOrEqual(report.compressed.kl.mean);
    expect(report.layers).toHaveLength(7 * 6 + 1);
    expect(readFileSync(join(out, 'README.md'), 'utf8')).toContain('KL divergence');
  });

  it('gives the same bytes again from the recipe it wrote, also on one thread', async () => {
    const again = scratch.path('again');
    const { code, stderr } = await lapidary([
      'compress',
      '--recipe',
      join(out, 'recipe.yaml'),
      '--out',
      again,
      '--threads',
      '1',
    ]);
    expect(stderr).not.toContain('error');
    expect(code).toBe(0);
    expect(sha256(join(again, 'onnx/model_q4.onnx'))).toBe(sha256(join(out, 'onnx/model_q4.onnx')));
    expect(readFileSync(join(again, 'recipe.yaml'), 'utf8')).toBe(
      readFileSync(join(out, 'recipe.yaml'), 'utf8'),
    );
  });

  it('replaces a folder of its own, and no other', async () => {
    const mine = scratch.path('mine');
    cpSync(join(pebble, 'config.json'), join(mine, 'notes.txt'));
    const { code, stderr } = await lapidary(['compress', '--method', 'rtn', '--out', mine, ...quick]);
    expect(code).not.toBe(0);
    expect(stderr).toContain('mine');
    expect(readdirSync(mine)).toEqual(['notes.txt']);
  });

  it('leaves nothing behind when it is interrupted', async () => {
    const stopped = scratch.path('stopped');
    const { code, stderr } = await lapidary(['compress', '--out', stopped, ...quick], 'compress');
    expect(code).toBe(130);
    expect(stderr).toContain('interrupted');
    expect(existsSync(stopped)).toBe(false);
    expect(readdirSync(dirname(stopped)).filter((name) => name.includes('stopped'))).toEqual([]);
  });
});

describe('evaluate, compare, generate, inspect', () => {
  const out = scratch.path('rtn');

  it('measures original and compressed with the same keys', async () => {
    expect(
      (await lapidary(['compress', '--method', 'rtn', '--bits', '8', '--out', out, ...quick])).code,
    ).toBe(0);
    const args = ['--data', stories, '--documents', '4', '--length', '64', '--json'];
    const original = await lapidary(['evaluate', pebble, ...args]);
    const compressed = await lapidary(['evaluate', out, '--against', pebble, ...args]);
    expect([original.code, compressed.code]).toEqual([0, 0]);
    const [before, after] = [JSON.parse(original.stdout), JSON.parse(compressed.stdout)];
    const keys = [
      'tokens',
      'nats',
      'perplexity',
      'bitsPerCharacter',
      'bytes',
      'parameters',
      'bitsPerWeight',
      'multiplyAdds',
    ];
    expect(Object.keys(before).sort()).toEqual([...keys].sort());
    expect(Object.keys(after).sort()).toEqual([...keys, 'kl', 'agreement'].sort());
    expect(Object.keys(after.kl).sort()).toEqual(['high', 'low', 'mean', 'median', 'p99']);
    expect(after.tokens).toBe(before.tokens);
    expect(after.parameters).toBe(before.parameters);
    expect(after.multiplyAdds).toBe(before.multiplyAdds);
    expect(after.perplexity.value).toBeCloseTo(before.perplexity.value, 1);
  });

  it('lays models side by side', async () => {
    const { code, stdout } = await lapidary([
      'compare',
      pebble,
      out,
      '--data',
      stories,
      '--documents',
      '2',
      '--length',
      '32',
      '--json',
    ]);
    expect(code).toBe(0);
    const { against, models } = JSON.parse(stdout);
    expect(against).toBe(pebble);
    expect(models.map(({ kl }: { kl: { mean: number } }) => kl.mean > 0)).toEqual([false, true]);
  });

  it('writes the same greedy text from the checkpoint and the 8-bit file', async () => {
    const write = async (model: string) =>
      (await lapidary(['generate', model, 'Once upon a time', '--max-tokens', '12'])).stdout;
    const text = await write('pebble');
    expect(text).toMatch(/^Once upon a time\S*,? /);
    expect(await write(out)).toBe(text);
  });

  it('lists what is in a model', async () => {
    const { code, stdout } = await lapidary(['inspect', out, '--json']);
    expect(code).toBe(0);
    expect(JSON.parse(stdout).tensors.length).toBeGreaterThan(43);
    expect((await lapidary(['inspect'])).stdout).toContain('model.embed_tokens.weight');
  });
});

describe('bad input is answered', () => {
  it.each([
    [['compress', '--metod', 'gptq'], 2, '--method'],
    [['compres'], 2, 'compress'],
    [['compress', '--method', 'gtpq'], 2, 'did you mean "gptq"'],
    [['compress', '--bits', '5'], 2, 'one of 2, 3, 4, 8'],
    [['compress', '--bits', 'four'], 2, 'number'],
    [['compress', 'no/such/folder/here'], 3, 'no/such/folder/here'],
    [['evaluate', pebble, '--data', '/nowhere.txt'], 3, '/nowhere.txt'],
    [['evaluate', pebble], 2, '--data'],
  ] as const)('%j', async (args, exitCode, text) => {
    const { code, stdout, stderr } = await lapidary(args);
    expect(stderr).toContain(text);
    expect(code).toBe(exitCode);
    expect(stdout).toBe('');
  });

  it('an error is a JSON object too', async () => {
    const { code, stdout } = await lapidary(['compress', '--json', '--method', 'rtm']);
    expect(code).toBe(2);
    expect(JSON.parse(stdout)).toMatchObject({ exitCode: 2, error: { fix: 'did you mean "rtn"?' } });
  });

  it('an unknown option of a recipe, with the nearest known one', async () => {
    const recipe = scratch.path('recipe.yaml');
    writeFileSync(recipe, 'steps:\n  - method: gptq\n    bitz: 4\n');
    const { code, stderr } = await lapidary(['compress', '--recipe', recipe]);
    expect(code).toBe(2);
    expect(stderr).toContain('did you mean "bits"');
  });

  it('an empty calibration file', async () => {
    const empty = scratch.path('empty.txt');
    writeFileSync(empty, '');
    const { code, stderr } = await lapidary(['compress', '--calibration', empty, '--out', scratch.path('x')]);
    expect(code).toBe(3);
    expect(stderr).toContain('empty.txt');
    expect(existsSync(scratch.path('x'))).toBe(false);
  });

  it('a truncated checkpoint', async () => {
    const folder = scratch.path('truncated');
    cpSync(pebble, folder, { recursive: true });
    truncateSync(join(folder, 'model.safetensors'), 100_000);
    const { code, stderr } = await lapidary(['inspect', folder]);
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
    const { code, stderr } = await lapidary([
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
    const { code, stderr } = await lapidary(['generate', folder, 'Once']);
    expect(code).toBe(3);
    expect(stderr).toContain('99999');
  });
});
