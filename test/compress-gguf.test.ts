/** `lapidary compress --format gguf`, from the command line to llama.cpp. */

import { cpSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse, stringify } from 'yaml';
import { openGguf } from '../src/io/gguf/read.ts';
import { answer, lapidary, scratchFolder, writeStories } from './command-line.ts';
import { hasLlama } from './engines/llama/llama.ts';
import { byteTokenizer } from './engines/models.ts';
import { writeShortPebble } from './models/checkpoint.ts';

const scratch = scratchFolder();
afterAll(scratch.remove);

/** Where node-llama-cpp is found. */
const withLlama = 'test/engines/llama';
// One thread: llama.cpp's wait for each other by spinning, which takes minutes where other tests want the cores too.
const little = ['--sequences', '8', '--length', '64', '--threads', '1', '--json'];
const quick = [...little, '--no-speed', '--no-answers'];

/** Little to measure on, where no other text is named. */
const few = scratch.path('few.jsonl');
writeStories(few, 4);
/** Where two blocks do, with the text that it is fitted to. */
const short = scratch.path('pebble');
const calibrated = [short, '--calibration', resolve('models/pebble/stories.jsonl')];
const ready = writeShortPebble(short);
beforeAll(() => ready);

const engine = hasLlama ? withLlama : undefined;
const compress = (name: string, ...flags: string[]) => compressIn(engine, name, [...flags, ...quick]);

async function compressIn(folder: string | undefined, name: string, flags: readonly string[]) {
  const out = scratch.path(name);
  const text = flags.includes('--evaluation') ? [] : ['--evaluation', few];
  const args = ['compress', '--format', 'gguf', '--out', out, ...flags, ...text];
  const ended = await lapidary(args, undefined, folder);
  expect(ended.stderr, ended.stderr).not.toContain('error:');
  return { out, report: JSON.parse(ended.stdout) };
}

describe('compress --format gguf', () => {
  // Begun before any test, where the model is not there yet otherwise.
  const mixed = ready.then(() => compressIn(engine, 'mixed', [...calibrated, ...little]));

  it('writes one file in the mix Q4_K_M, and what is beside it', async () => {
    const { out, report } = await mixed;
    const names = ['README.md', 'pebble-Q4_K_M.gguf', 'recipe.yaml', 'report.html', 'report.json'];
    expect(readdirSync(out).toSorted()).toEqual(names);
    const types = new Set([...openGguf(join(out, names[1]!)).tensors.values()].map(({ type }) => type.name));
    expect(types).toEqual(new Set(['Q4_K', 'Q6_K', 'F32']));
    expect(report.compressed.bytes).toBe(statSync(join(out, names[1]!)).size);
    expect(readFileSync(join(out, 'README.md'), 'utf8')).toContain('(report.html)');
    const { steps } = parse(readFileSync(join(out, 'recipe.yaml'), 'utf8'));
    expect(steps).toMatchObject([{ method: 'ggml', type: 'Q4_K_M', fit: 'compensated' }]);
  });

  it.skipIf(!hasLlama)('has it loaded in llama.cpp, which computes the same', async () => {
    const { report } = await mixed;
    const [own, llama] = report.checks;
    expect(own.engine).toBe('Lapidary');
    expect(own.worst).toBeLessThan(1e-4);
    expect(llama.engine).toContain('llama.cpp');
    expect(llama.worst).toBeLessThan(llama.tolerance);
    expect(report.compressed.speed.decodeTokensPerSecond).toBeGreaterThan(0);
  });

  it.skipIf(!hasLlama)('has llama.cpp answer the prompts, and says so', async () => {
    const { out, report } = await mixed;
    const { engine } = report.checks[1];
    expect(report.answers).toHaveLength(3);
    for (const answer of report.answers) {
      expect(answer.engine).toBe(engine);
      expect(answer.original.trim()).not.toBe('');
    }
    expect(readFileSync(join(out, 'README.md'), 'utf8')).toContain(`40 at most, in ${engine}.`);
  });

  it('measures the file that it wrote', async () => {
    const { out, report } = await mixed;
    const text = ['--data', 'models/pebble/stories.jsonl', '--documents', '4'];
    const { stdout } = await answer(['evaluate', out, ...text, '--against', short, '--json']);
    const found = JSON.parse(stdout);
    expect(found.bytes).toBe(report.compressed.bytes);
    expect(found.kl.mean).toBeGreaterThan(0);
    expect(found.kl.mean).toBeLessThan(0.02);
  });

  it('writes what GPTQ chose without loss, as Q4_1, and tables as Q8_0', async () => {
    const { out, report } = await compress('gptq', ...calibrated, '--method', 'gptq');
    const types = [...openGguf(join(out, report.file.path)).tensors.values()].map(({ type }) => type.name);
    expect(new Set(types)).toEqual(new Set(['Q4_1', 'Q8_0', 'F32']));
    for (const { worst, tolerance } of report.checks) expect(worst).toBeLessThan(tolerance);
    const { tensors } = JSON.parse(readFileSync(join(out, 'report.json'), 'utf8'));
    const stored = tensors.reduce(
      (sum: number, { after }: { after: { bytes: number } }) => sum + after.bytes,
      0,
    );
    const { bitsPerWeight, parameters } = report.compressed;
    expect((8 * stored) / parameters).toBeCloseTo(bitsPerWeight, 10);
  });

  it('is compared as far as a window of attention reaches, behind which llama.cpp sees more', async () => {
    const model = scratch.path('windowed');
    cpSync('test/models/mistral', model, { recursive: true });
    for (const [name, read] of byteTokenizer()) writeFileSync(join(model, name), read());
    const passage = scratch.path('passage.txt');
    writeFileSync(passage, readFileSync('README.md', 'utf8').slice(0, 1000));
    const text = ['--evaluation', passage, '--fit', 'plain'];
    const { report } = await compress('mistral', model, ...text);
    for (const { worst, tolerance } of report.checks) expect(worst).toBeLessThan(tolerance);
    expect(report.notes).toContainEqual(expect.stringContaining('not a window of 8'));
  });

  it('takes the recipe of an ONNX run, and says where there was little text', async () => {
    const recipe = scratch.path('onnx.yaml');
    writeFileSync(
      recipe,
      stringify({
        steps: [
          { method: 'gptq', bits: 4, scales: 'float16', symmetric: false },
          { method: 'rtn', targets: ['embeddings'], bits: 8, symmetric: false },
        ],
        export: { format: 'onnx' },
      }),
    );
    // Where llama.cpp is not at hand.
    const flags = [...calibrated, '--recipe', recipe, '--bits', '8', ...quick];
    const { report } = await compressIn(undefined, 'moved', flags);
    expect(report.recipe.steps).toMatchObject([
      { method: 'gptq', bits: 8 },
      { method: 'rtn', bits: 8, symmetric: true },
    ]);
    expect(report.file.path).toBe('pebble-Q8_0.gguf');
    expect(report.notes.join()).toMatch(/on 512 tokens, little for matrices with 768 inputs/);
  });

  it('says before the work what does not fit, and what would', async () => {
    const out = scratch.path('unfit');
    const asked = ['compress', '--format', 'gguf', '--method', 'gptq', '--group', '16', '--out', out];
    const { code, stderr } = await answer([...asked, ...quick]);
    expect(code).toBe(3);
    expect(stderr).toMatch(/group/);
    expect(stderr).not.toMatch(/compress: /);
    expect(readdirSync(join(out, '..'))).not.toContain('unfit');
  });

  it('warns where the source is quantized already', async () => {
    const { out } = await mixed;
    const source = join(out, 'pebble-Q4_K_M.gguf');
    const how = ['--format', 'gguf', '--type', 'Q8_0', '--fit', 'plain', '--out', scratch.path('again')];
    const { stderr } = await lapidary(['compress', source, ...how, '--evaluation', few, ...quick]);
    expect(stderr).toMatch(/warning: .*quantized/);
  });
});
