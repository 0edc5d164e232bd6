/** The commands that read models and results: evaluate, compare, generate, inspect. */

import { spawnSync } from 'node:child_process';
import { cpSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { answer, bin, lapidary, scratchFolder } from './command-line.ts';

const pebble = fileURLToPath(new URL('../models/pebble', import.meta.url));
const stories = join(pebble, 'stories.jsonl');
const scratch = scratchFolder();
afterAll(scratch.remove);

/** Little text, so that the tests are quick, and no speed of it. */
const quick = ['--sequences', '4', '--length', '32', '--no-speed', '--no-answers'];

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

  it('obeys no terminal commands that stand in a model', async () => {
    const config = JSON.parse(readFileSync(join(pebble, 'config.json'), 'utf8'));
    const folder = scratch.path('evil');
    cpSync(pebble, folder, { recursive: true });
    writeFileSync(join(folder, 'config.json'), JSON.stringify({ ...config, model_type: '\u001b[2Jevil' }));
    const { code, stdout } = await answer(['inspect', folder]);
    expect(code).toBe(0);
    expect(stdout).toContain('\\u001b[2Jevil');
    expect(stdout).not.toContain('\u001b');
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

  it('reads the prompt from standard input, without the line end of a shell', () => {
    const read = (input: string) =>
      spawnSync(process.execPath, [bin, 'generate', 'pebble', '-', '--max-tokens', '0'], {
        encoding: 'utf8',
        input,
      });
    expect(read('Once upon\na time\n').stdout).toBe('Once upon\na time\n');
    const { status, stderr } = read('\n');
    expect(status).toBe(2);
    expect(stderr).toContain('standard input holds no prompt');
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
