/** `lapidary imatrix` and `compress --imatrix`, from the command line to llama.cpp's own quantizer. */

import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { openGguf } from '../src/io/gguf/read.ts';
import { writeGguf } from '../src/io/gguf/write.ts';
import type { ImatrixForm } from '../src/io/imatrix/imatrix.ts';
import { readImatrix, writeImatrix } from '../src/io/imatrix/imatrix.ts';
import { ggufFileTypes } from '../src/models/gguf-mixes.ts';
import { ggufOf } from '../src/models/gguf-write.ts';
import { openModel } from '../src/open.ts';
import { answer, scratchFolder, writeStories } from './command-line.ts';
import { hasLlama } from './engines/llama/llama.ts';
import { writeShortPebble } from './models/checkpoint.ts';

const scratch = scratchFolder();
afterAll(scratch.remove);
const text = scratch.path('few.jsonl');
writeStories(text, 8);
const short = scratch.path('pebble');
const pathOf = (form: ImatrixForm) => scratch.path(`imatrix.${form}`);
const collected = (form: ImatrixForm, ...flags: string[]) =>
  answer(['imatrix', short, '--data', text, '--chunk-size', '64', '--out', pathOf(form), '--json', ...flags]);

beforeAll(async () => {
  await writeShortPebble(short);
  for (const form of ['gguf', 'dat'] as const) expect((await collected(form)).code).toBe(0);
});

async function compressed(name: string, ...flags: string[]) {
  const out = scratch.path(name);
  const ended = await answer(['compress', short, '--out', out, '--no-speed', '--json', ...flags]);
  return { out, ...ended, report: JSON.parse(ended.stdout || '{}') };
}

/** llama.cpp's own, of the same weights. @returns its tensors */
function quantizedByLlama(from: string, type: string, form: ImatrixForm) {
  const { entries } = readImatrix(pathOf(form));
  const file = scratch.path('means.f32');
  const means = [...entries.values()].map(({ sums, counts }) => sums.map((sum) => sum / counts[0]));
  writeFileSync(file, Buffer.concat(means.map((each) => new Uint8Array(each.buffer))));
  const named = [...entries].map(([name, { sums }]) => ({ name, size: sums.length }));
  const to = scratch.path(`llama-${form}.gguf`);
  const job = {
    from,
    to,
    fileType: ggufFileTypes[type].id,
    threads: 1,
    importance: { file, entries: named },
  };
  const script = resolve('test/engines/llama/quantize.js');
  const { status, stderr } = spawnSync(process.execPath, [script], {
    input: JSON.stringify([job]),
    encoding: 'utf8',
  });
  expect(status, stderr).toBe(0);
  return openGguf(to).tensors;
}

describe('lapidary imatrix', () => {
  it('writes the form that the name says, and both say the same', () => {
    const [gguf, dat] = [readImatrix(pathOf('gguf')), readImatrix(pathOf('dat'))];
    expect(gguf).toMatchObject({ datasets: [text], chunkSize: 64 });
    expect(gguf.entries.size).toBe(14);
    expect([...dat.entries.keys()]).toEqual([...gguf.entries.keys()]);
    expect(readFileSync(pathOf('dat')).subarray(0, 4).toString('latin1')).not.toBe('GGUF');
  });

  it('tells what it wrote, and what comes next', async () => {
    const path = scratch.path('told.gguf');
    const { stdout } = await answer(['imatrix', short, '--data', text, '--chunks', '1', '--out', path]);
    expect(stdout).toContain('14 weights, 1 chunks of 512 tokens');
    expect(stdout).toContain(`--imatrix ${path}`);
  });

  it('replaces no file unless told, and no chunk is longer than the context', async () => {
    const before = readFileSync(pathOf('gguf'));
    expect(await collected('gguf')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('--overwrite'),
    });
    expect(readFileSync(pathOf('gguf')).equals(before)).toBe(true);
    const long = [
      'imatrix',
      short,
      '--data',
      text,
      '--chunk-size',
      '4096',
      '--out',
      scratch.path('long.gguf'),
    ];
    expect(await answer(long)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('--chunk-size 512'),
    });
  });
});

describe('compress --imatrix', () => {
  const withForm = (form: ImatrixForm) => ['--format', 'gguf', '--type', 'Q2_K', '--imatrix', pathOf(form)];

  it.skipIf(!hasLlama).each(['gguf', 'dat'] as const)(
    "of the form %s, without any text, gives llama.cpp's bytes",
    async (form) => {
      const { out, stderr } = await compressed(form, ...withForm(form));
      expect(stderr).not.toContain('error:');
      const file = readdirSync(out).find((name) => name.endsWith('.gguf'))!;
      const from = scratch.path(`base-${form}.gguf`);
      const { metadata, tensors } = ggufOf((await openModel(short)).model!, { name: 'base', floats: 'F32' });
      await writeGguf(from, metadata, tensors);
      const theirs = quantizedByLlama(from, 'Q2_K', form);
      const ours = openGguf(join(out, file));
      for (const [name, tensor] of theirs) {
        expect(ours.tensors.get(name)!.type.name, name).toBe(tensor.type.name);
        expect(Buffer.compare(ours.tensors.get(name)!.bytes(), tensor.bytes()), name).toBe(0);
      }
      expect(ours.metadata.get('quantize.imatrix.file')).toMatchObject({ value: `imatrix.${form}` });
      expect(ours.metadata.get('quantize.imatrix.entries_count')).toMatchObject({ value: 14 });
    },
  );

  it('says in recipe.yaml what it was made with, and which weights the file says nothing of', async () => {
    const { entries, ...said } = readImatrix(pathOf('gguf'));
    const some = new Map([...entries].filter(([name]) => !/blk\.1\.(attn_q|ffn_up)/.test(name)));
    const path = scratch.path('partial.gguf');
    await writeImatrix(path, { ...said, entries: some, chunks: said.chunks!, chunkSize: 64 }, 'gguf');
    const { out, report } = await compressed(
      'partial',
      '--format',
      'gguf',
      '--type',
      'Q4_0',
      '--imatrix',
      path,
    );
    expect(report.notes).toContainEqual(
      'partial.gguf says nothing of blk.1.attn_q.weight, blk.1.ffn_up.weight: rounded without importance.',
    );
    const recipe = parse(readFileSync(join(out, 'recipe.yaml'), 'utf8'));
    expect(recipe.calibration.imatrix).toBe(path);
    expect(recipe.made.imatrixSha256).toMatch(/^[0-9a-f]{64}$/);
    expect(recipe.steps[0]).toMatchObject({ method: 'ggml', fit: 'importance' });
  });

  it.each<readonly [string, readonly string[], string]>([
    [
      'a method that does not want it',
      ['--method', 'rtn'],
      'no method of the recipe rounds by an importance matrix',
    ],
    ['errors compensated', ['--format', 'gguf', '--fit', 'compensated'], 'leave --imatrix out'],
    ['a rewrite before it', ['--format', 'gguf', '--method', 'awq+ggml'], 'awq'],
  ])('is refused with %s', async (_, flags, said) => {
    const { code, stderr } = await compressed('refused', '--imatrix', pathOf('gguf'), ...flags);
    expect(stderr).toContain(said);
    expect([2, 3]).toContain(code);
  });

  it('is refused where the file is none, by its name', async () => {
    const { code, stderr } = await compressed('none', '--format', 'gguf', '--imatrix', text);
    expect(code).toBe(3);
    expect(stderr).toContain(`${text}: the number of weights cannot be`);
  });
});
