/** `lapidary compress` through its own process: what it writes, replaces, and leaves alone. */

import { createHash } from 'node:crypto';
import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { answer, lapidary, lapidaryTelling, scratchFolder, writeStories } from './command-line.ts';
import { writeShortPebble } from './models/checkpoint.ts';

const pebble = fileURLToPath(new URL('../models/pebble', import.meta.url));
const scratch = scratchFolder();
afterAll(scratch.remove);

/** Where two blocks do, which are as wide, and a few stories. */
const [short, few] = [scratch.path('short'), scratch.path('few.jsonl')];
beforeAll(async () => {
  await writeShortPebble(short);
  writeStories(few, 12);
});

/** Little text, so that the tests are quick; and no speed of it but in one. */
const little = ['--sequences', '4', '--length', '32'];
const quick = [...little, '--no-speed', '--no-answers'];
const sha256 = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex');

describe('compress', () => {
  const out = scratch.path('gptq');

  it('writes a folder that is complete, and one JSON object on standard output', async () => {
    const { code, stdout } = await lapidary([
      'compress',
      '--json',
      '--out',
      out,
      '--evaluation',
      few,
      ...little,
    ]);
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
      const same = [
        'compress',
        '--recipe',
        recipe,
        '--out',
        again,
        '--threads',
        '2',
        '--no-speed',
        '--no-answers',
      ];
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
        '--no-answers',
        '--json',
      ];
      const { stdout } = await answer(['compress', '--recipe', recipe, ...flags]);
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
    const { code, stderr } = await answer(args);
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
      const args = ['compress', short, '--calibration', few, '--method', method, '--out', stopped, ...quick];
      const { code, stdout, stderr } = await lapidary(args, when);
      expect(stderr).toContain('error: interrupted');
      expect([code, stdout]).toEqual([130, '']);
      const left = readdirSync(dirname(stopped)).filter((name) => name.includes('stopped'));
      expect(left.filter((name) => name !== '.stopped.journal')).toEqual([]);
    },
  );
});
