import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { stored } from '../src/base/tensor.ts';
import { openSafetensors } from '../src/io/safetensors/read.ts';
import { writeSafetensors } from '../src/io/safetensors/write.ts';
import { answer, bin, lapidary, lapidaryTelling, scratchFolder, writeStories } from './command-line.ts';
import { writeShortPebble } from './models/checkpoint.ts';

const pebble = fileURLToPath(new URL('../models/pebble', import.meta.url));
const stories = join(pebble, 'stories.jsonl');
const scratch = scratchFolder();
afterAll(scratch.remove);

/** Where two blocks do, which are as wide, and a few stories. */
const [short, few] = [scratch.path('short'), scratch.path('few.jsonl')];
beforeAll(async () => {
  await writeShortPebble(short);
  writeStories(few, 40);
});

/** Little text, so that the tests are quick; and no speed of it but in one. */
const little = ['--sequences', '4', '--length', '32'];
const quick = [...little, '--no-speed'];
const sha256 = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex');

describe('compress', () => {
  const out = scratch.path('gptq');

  it('writes a folder that is complete, and one JSON object on standard output', async () => {
    const { code, stdout } = await lapidary(['compress', '--json', '--out', out, ...little]);
    expect(code).toBe(0);
    const report = JSON.parse(stdout);
    expect(readdirSync(out).sort()).toEqual(
      [
        'README.md',
        'config.json',
        'genai_config.json',
        'generation_config.json',
        'onnx',
        'recipe.yaml',
        'report.html',
        'report.json',
        'tokenizer.json',
        'tokenizer_config.json',
      ].sort(),
    );
    expect(readdirSync(join(out, 'onnx'))).toEqual(['model_q4.onnx']);
    expect(report.compressed.bytes).toBeLessThan(report.original.bytes / 2);
    expect(report.compressed.kl.mean).toBeGreaterThan(0);
    expect(report.compressed.kl.low).toBeLessThanOrEqual(report.compressed.kl.mean);
    expect(report.layers).toHaveLength(7 * 6 + 1);
    expect(report.compressed.speed.decodeTokensPerSecond).toBeGreaterThan(0);
    expect(readFileSync(join(out, 'README.md'), 'utf8')).toContain('KL divergence');
  });

  describe('from a recipe that it wrote', () => {
    const first = scratch.path('first');

    it('gives the same bytes again, also on two threads', async () => {
      const again = scratch.path('again');
      const asked = ['compress', short, '--calibration', few, '--out', first, ...quick];
      expect((await lapidary(asked)).code).toBe(0);
      const recipe = join(first, 'recipe.yaml');
      const same = ['compress', '--recipe', recipe, '--out', again, '--threads', '2', '--no-speed'];
      const { code, stderr } = await lapidary(same);
      expect(stderr).not.toContain('error');
      expect(code).toBe(0);
      expect(sha256(join(again, 'onnx/model_q4.onnx'))).toBe(sha256(join(first, 'onnx/model_q4.onnx')));
      expect(readFileSync(join(again, 'recipe.yaml'), 'utf8')).toBe(readFileSync(recipe, 'utf8'));
    });

    it('lets flags go over it, and says where its inputs changed', async () => {
      const recipe = scratch.path('other.yaml');
      const text = readFileSync(join(first, 'recipe.yaml'), 'utf8');
      writeFileSync(recipe, text.replace(/calibrationSha256: .*/, 'calibrationSha256: other'));
      const flags = [
        '--method',
        'rtn',
        '--bits',
        '8',
        '--out',
        scratch.path('flags'),
        '--no-speed',
        '--json',
      ];
      const { stdout } = await lapidary(['compress', '--recipe', recipe, ...flags]);
      const report = JSON.parse(stdout);
      expect([report.original.speed, report.compressed.speed]).toEqual([undefined, undefined]);
      expect(report.recipe.steps).toMatchObject([
        { method: 'rtn', targets: ['blocks'], bits: 8 },
        { method: 'rtn', targets: ['embeddings'], bits: 8 },
      ]);
      expect(report.recipe.calibration).toMatchObject({ sequences: 4, length: 32 });
      expect(readFileSync(join(report.out, 'README.md'), 'utf8')).toContain('15 matrices as 8-bit');
      expect(report.notes.join()).toContain('made with calibrationSha256 other');
    });
  });

  it.each([1, 2])('takes no more threads than --threads %i, whatever OMP_NUM_THREADS says', (threads) => {
    const tell =
      "let workers = 0; process.on('worker', () => workers++);" +
      "process.on('exit', () => process.stderr.write(`${workers} workers`));";
    const asked = ['compress', short, '--method', 'rtn', '--calibration', few, '--threads', String(threads)];
    const args = [...asked, '--out', scratch.path('threads'), ...quick];
    const { status, stderr } = lapidaryTelling(tell, args, { OMP_NUM_THREADS: '3' });
    expect(status, stderr).toBe(0);
    // One more speaks with the process that the tokenizer runs in.
    expect(stderr).toContain(`${threads} workers`);
  });

  it('replaces a folder of its own, and no other', async () => {
    const mine = scratch.path('mine');
    cpSync(join(pebble, 'config.json'), join(mine, 'notes.txt'));
    const { code, stderr } = await answer(['compress', '--method', 'rtn', '--out', mine, ...quick]);
    expect(code).not.toBe(0);
    expect(stderr).toContain('mine');
    expect(stderr, 'it is found out before the work').not.toContain('compress:');
    expect(readdirSync(mine)).toEqual(['notes.txt']);
  });

  it('never replaces the model that it reads', async () => {
    const model = scratch.path('model');
    cpSync(pebble, model, { recursive: true });
    const args = ['compress', model, '--method', 'rtn', '--out', model, '--overwrite'];
    const { code, stderr } = await lapidary(args);
    expect(code).toBe(2);
    expect(stderr).toContain('holds what is read');
    expect(readdirSync(model)).toEqual(readdirSync(pebble));
  });

  it.skipIf(process.platform === 'win32').each([
    ['the walk', 'gptq', 'compress'],
    ['the check', 'rtn', 'evaluate:'],
  ])(
    'leaves its journal alone when it is interrupted in %s (skipped on Windows)',
    async (_, method, when) => {
      const stopped = scratch.path('stopped');
      const args = ['compress', '--method', method, '--out', stopped, ...quick];
      const { code, stdout, stderr } = await lapidary(args, when);
      expect(stderr).toContain('error: interrupted');
      expect([code, stdout]).toEqual([130, '']);
      const left = readdirSync(dirname(stopped)).filter((name) => name.includes('stopped'));
      expect(left.filter((name) => name !== '.stopped.journal')).toEqual([]);
    },
  );
});

describe('evaluate, compare, generate, inspect', () => {
  const out = scratch.path('rtn');

  it('measures original and compressed with the same keys, as compress did on the same text', async () => {
    const flags = ['--method', 'rtn', '--bits', '8', '--evaluation', stories, '--json', ...quick];
    const report = JSON.parse((await lapidary(['compress', '--out', out, ...flags])).stdout);
    const args = ['--data', stories, '--documents', '32', '--length', '32', '--json'];
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
    expect(Object.keys(after).sort()).toEqual(
      [...keys, 'kl', 'agreement', 'perplexityRatio', 'original'].sort(),
    );
    expect(Object.keys(after.kl).sort()).toEqual(['high', 'low', 'mean', 'median', 'p99']);
    expect(report.original).toMatchObject(before);
    const { original: again, ...own } = after;
    expect(before).toMatchObject(again);
    expect(report.compressed).toMatchObject(own);
    const written = statSync(join(out, report.file.path)).size;
    expect([after.bytes, report.file.bytes]).toEqual([written, written]);
    expect(after.tokens).toBe(before.tokens);
    expect(after.parameters).toBe(before.parameters);
    expect(after.multiplyAdds).toBe(before.multiplyAdds);
    expect(after.perplexity.value).toBeCloseTo(before.perplexity.value, 1);
  });

  it('lays models side by side', async () => {
    const { code, stdout, stderr } = await lapidary([
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
    for (const name of ['pebble', basename(out)])
      expect(stderr, 'whose progress it is').toMatch(new RegExp(`^evaluate ${name}: `, 'm'));
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

  it('opens every model before it measures one', async () => {
    const { code, stderr } = await answer(['compare', pebble, scratch.path('nothing'), '--data', stories]);
    expect(code).toBe(3);
    expect(stderr).not.toContain('evaluate:');
  });

  it('says when intervals mean nothing', async () => {
    const one = scratch.path('one.txt');
    writeFileSync(one, 'Once upon a time there was a stone.');
    const { code, stderr } = await answer(['evaluate', pebble, '--data', one, '--separator', '###']);
    expect(code).toBe(0);
    expect(stderr).toContain('the separator "###" is not in the text');
  });

  it('writes the prompt with the text, and not without', async () => {
    const args = ['generate', 'pebble', 'Once'];
    expect((await answer([...args, '--max-tokens', '0'])).stdout).toBe('Once\n');
    const { code, stdout } = await answer([...args, '--temperature', '-1']);
    expect([code, stdout]).toEqual([2, '']);
  });

  it.skipIf(process.platform === 'win32')('ends quietly when nobody reads on (skipped on Windows)', () => {
    const pipe = `"${process.execPath}" "${bin}" inspect --json | head -c 1`;
    const { stdout, stderr } = spawnSync('sh', ['-c', pipe], { encoding: 'utf8' });
    expect([stdout, stderr]).toEqual(['{', '']);
  });

  it.skipIf(process.platform === 'win32')(
    'goes on when nobody hears its progress (skipped on Windows)',
    () => {
      const data = scratch.path('unheard.txt');
      writeFileSync(data, 'Once upon a time there was a little girl.');
      const run = `"${process.execPath}" "${bin}" evaluate pebble --data "${data}" --json`;
      // Standard error goes to a pipe whose reader is gone, standard output to the test.
      const piped = `{ { sleep 0.2; ${run}; } 2>&1 1>&3 | true; } 3>&1`;
      const { stdout, status } = spawnSync('sh', ['-c', piped], { encoding: 'utf8' });
      expect([status, JSON.parse(stdout)]).toEqual([
        0,
        expect.objectContaining({ tokens: expect.any(Number) }),
      ]);
    },
  );

  it('shows what is in a model, with or without a tokenizer', async () => {
    const bare = fileURLToPath(new URL('models/qwen2', import.meta.url));
    const { stdout: shown } = await answer(['inspect', bare]);
    expect(shown).toMatch(
      /^model +qwen2 .*\narchitecture +qwen2, Qwen2ForCausalLM\nlayers +3\nheads +4 of 12, 2 for/,
    );
    expect(shown).toMatch(/chat template +no\n/);
    // Layers that are alike share a line, and tensors are not asked for.
    expect(shown).toMatch(/\n0-2 +20.9 k +83.7 kB +float32\n/);
    expect(shown).not.toContain('q_proj.weight');
    expect((await lapidary(['inspect'])).stdout).toContain('model.embed_tokens');
  });

  it('shows of an exported folder what it was made by, and a matrix as one line', async () => {
    const { stdout: shown } = await answer(['inspect', out, '--layer', '1', '--name', '*q_proj']);
    expect(shown).toMatch(/made by +lapidary \d+\.\d+\.\d+ from pebble\n/);
    expect(shown).toMatch(/again by +lapidary compress /);
    expect(shown.split('\n').filter((line) => line.includes('q_proj'))).toEqual([
      expect.stringMatching(/^model\.layers\.1\.self_attn\.q_proj +256 x 256 +8-bit, group 32, zero points/),
    ]);

    const { code, stdout } = await answer(['inspect', out, '--json']);
    expect(code).toBe(0);
    const report = JSON.parse(readFileSync(join(out, 'report.json'), 'utf8'));
    const found = JSON.parse(stdout);
    for (const key of ['bytes', 'parameters', 'bitsPerWeight', 'multiplyAdds'])
      expect(found[key], key).toBe(report.compressed[key]);
    expect(found.tensors.map(({ name }: { name: string }) => name).sort()).toEqual(
      report.tensors.map(({ name }: { name: string }) => name).sort(),
    );
  });

  it('lists tensors where they are asked for, and says where there are none such', async () => {
    const all = (await answer(['inspect', '--tensors'])).stdout;
    expect(all).toMatch(/tensor +shape(.|\n)*model\.layers\.5\.mlp\.down_proj +256 x 768 +bfloat16/);
    const ended = await answer(['inspect', '--layer', '9']);
    expect([ended.code, ended.stderr]).toEqual([2, expect.stringContaining('--layer 9')]);
  });
});

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
    const { code, stdout } = await lapidary(['compress', '--json', '--method', 'rtm']);
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

  it('an exported model where a checkpoint is needed', async () => {
    const { code, stderr } = await answer(['compress', scratch.path('gptq'), '--method', 'rtn']);
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
