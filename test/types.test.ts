/** Several types of one model side by side in a folder: each is what its own run writes, and engines find it by its name. */

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { describeResults } from '../src/cli/result.ts';
import { compress, compressTypes } from '../src/compress.ts';
import { writeText } from '../src/generate/generate.ts';
import { inspect } from '../src/inspect/inspect.ts';
import { openModel } from '../src/open.ts';
import { parseReport } from '../src/report/data.ts';
import { push } from '../src/share/push.ts';
import { answer, lapidary, scratchFolder, writeStories } from './command-line.ts';
import { transformers } from './engines/transformers.ts';
import { writeTinyCheckpoint } from './models/checkpoint.ts';

const scratch = scratchFolder();
afterAll(scratch.remove);
const [model, text] = [scratch.path('tiny'), scratch.path('text.jsonl')];
const short = ['--calibration', text, '--sequences', '4', '--length', '32'];
const bytesOf = (...path: readonly string[]) => readFileSync(join(...path));
const json = (...path: readonly string[]) => JSON.parse(bytesOf(...path).toString());

beforeAll(async () => {
  await writeTinyCheckpoint(model, { num_hidden_layers: 2 });
  writeStories(text, 20);
});

describe('q4, q8 and fp16 by one command', () => {
  const out = scratch.path('tiny-onnx-q4-q8-fp16');
  let told = '';

  beforeAll(async () => {
    const ended = await answer(['compress', model, '--types', 'q4,q8,fp16', ...short, '--out', out]);
    expect(ended.code, ended.stderr).toBe(0);
    expect(ended.stderr).toContain('q4: Chosen: gptq, 4 bits, groups of 32');
    expect(ended.stderr).toContain('q8: Chosen: rtn, 8 bits');
    told = ended.stdout;
  });

  it('stand in one folder, the first as the default, with a recipe and a report each', () => {
    expect(readdirSync(join(out, 'onnx')).sort()).toEqual([
      'model_fp16.onnx',
      'model_q4.onnx',
      'model_quantized.onnx',
    ]);
    expect(json(out, 'config.json')['transformers.js_config']).toEqual({ dtype: 'q4' });
    expect(json(out, 'genai_config.json').model.decoder.filename).toBe('onnx/model_q4.onnx');
    const own = readdirSync(out).filter((name) => /^(re|README|config)/.test(name));
    const each = ['q4', 'q8', 'fp16'].flatMap((type) => [`recipe-${type}.yaml`, `report-${type}.json`]);
    expect(own.sort()).toEqual(['README.md', 'config.json', 'report.html', ...each].sort());
    expect(told).toMatch(/^ +original +q4 +q8 +fp16$/m);
    expect(told).toMatch(/^q8: \d\.\d+ times smaller/m);
  });

  it('each to the byte as its own run writes it', async () => {
    const calibration = { data: text, sequences: 4, length: 32 };
    const evaluation = { length: 32 };
    const alone = scratch.path('alone');
    const run = { model, bits: 4, calibration, evaluation, out: alone, threads: 1, speed: false } as const;
    const { file } = await compress(run);
    expect(bytesOf(alone, file.path).equals(bytesOf(out, 'onnx/model_q4.onnx'))).toBe(true);
    const again = scratch.path('again');
    const ended = await answer(['compress', '--recipe', join(out, 'recipe-fp16.yaml'), '--out', again]);
    expect(ended.code, ended.stderr).toBe(0);
    expect(bytesOf(again, 'onnx/model_fp16.onnx').equals(bytesOf(out, 'onnx/model_fp16.onnx'))).toBe(true);
  });

  it.skipIf(!transformers).each([
    ['q4', 'model_q4.onnx'],
    ['q8', 'model_quantized.onnx'],
    ['fp16', 'model_fp16.onnx'],
  ])(
    '%s is what transformers.js loads by that name (skipped where it is not installed)',
    async (dtype, file) => {
      const engine = await transformers!.AutoModelForCausalLM.from_pretrained(out, { dtype });
      expect(engine.sessions.model!.config.dtype).toBe(dtype);
      await engine.dispose();
      const generator = await transformers!.pipeline('text-generation', out, { dtype });
      const [{ generated_text }] = (await generator('Once upon a time', { max_new_tokens: 12 })) as [
        { generated_text: string },
      ];
      const opened = await openModel(join(out, 'onnx', file));
      const { text: ours } = await writeText(
        { source: opened.file!, tokenizer: opened.tokenizer },
        'Once upon a time',
        { maxTokens: 12, context: 64, threads: 1 },
      );
      expect(generated_text).toBe(`Once upon a time${ours}`);
    },
  );

  it('are measured on the same text, and the card and the page show them beside each other', () => {
    const reports = ['q4', 'q8', 'fp16'].map((type) =>
      parseReport(bytesOf(out, `report-${type}.json`).toString()),
    );
    const [q4, q8, fp16] = reports.map(({ compressed }) => compressed.kl!.mean) as [number, number, number];
    expect(q4).toBeGreaterThan(q8);
    expect(q8).toBeGreaterThan(fp16);
    expect(new Set(reports.map(({ original }) => original.perplexity!.value)).size).toBe(1);
    // As it stands in the file, whatever the original is in.
    expect(reports[2]!.summary).toMatch(/Stored: \d+ matrices as float16\.$/);
    const card = bytesOf(out, 'README.md').toString();
    expect(card).toContain('|  | original | q4 | q8 | fp16 |');
    expect(card).toContain('`q8`, `fp16` in place of `q4`');
    expect(
      bytesOf(out, 'report.html')
        .toString()
        .match(/"target":"ONNX/g),
    ).toHaveLength(3);
  });

  it('are read by the other commands: the default where nobody says which, all of them by report', async () => {
    expect((await openModel(out)).file).toBe(join(out, 'onnx/model_q4.onnx'));
    expect((await inspect(join(out, 'onnx/model_quantized.onnx'))).madeBy?.target).toMatch(/q8$/);
    const page = scratch.path('page.html');
    const ended = await answer(['report', out, '--out', page]);
    expect([ended.code, existsSync(page)]).toEqual([0, true]);
    for (const type of ['q4', 'q8', 'fp16']) expect(ended.stdout).toContain(`tiny-onnx-q4-q8-fp16 ${type}`);
    const pushed = await push(out, 'somebody/tiny', { dryRun: true });
    expect(pushed.files.map(({ path }) => path)).toContain('onnx/model_fp16.onnx');
  });

  it('are replaced by the same command, and by no other', async () => {
    const run = (types: string, ...flags: readonly string[]) =>
      answer(['compress', model, '--types', types, ...short, '--no-speed', ...flags, '--out', out]);
    const others = await run('q4,q8');
    expect([others.code, others.stderr]).toEqual([2, expect.stringContaining('a result of 3 types')]);
    const changed = await run('q4,q8,fp16', '--group', '64');
    expect([changed.code, changed.stderr]).toEqual([2, expect.stringContaining("another recipe's result")]);
    expect((await run('q4,q8,fp16')).code).toBe(0);
  });
});

describe('GGUF', () => {
  it("has files of llama.cpp's types side by side, from the library", async () => {
    const out = scratch.path('gguf');
    const reports = await compressTypes({
      model,
      types: ['Q4_K_M', 'Q8_0', 'F16'],
      calibration: { data: text, sequences: 4, length: 32 },
      evaluation: { length: 32 },
      out,
      speed: false,
      threads: 1,
    });
    expect(reports.map(({ type, file }) => [type, file.path])).toEqual([
      ['Q4_K_M', 'tiny-Q4_K_M.gguf'],
      ['Q8_0', 'tiny-Q8_0.gguf'],
      ['F16', 'tiny-F16.gguf'],
    ]);
    for (const { file, checks } of reports) {
      expect(bytesOf(out, file.path)).toHaveLength(file.bytes);
      for (const { worst, tolerance } of checks) expect(worst).toBeLessThanOrEqual(tolerance);
    }
    expect(reports[2]!.compressed.kl!.mean).toBeLessThan(reports[0]!.compressed.kl!.mean);
    // The folder alone would be refused: llama.cpp knows no default.
    const [, next] = describeResults(reports).split('npx lapidary generate ');
    expect(next).toBe(`${join(out, 'tiny-Q4_K_M.gguf')} "Once upon a time"`);
  });

  it.each([
    ['a text in place of a list', { types: 'q4,q8' }, /types do not fit\n.*list of names.*\n.*"q4,q8"/],
    ['numbers', { types: [4, 8] }, /types do not fit/],
    ['none', {}, /types do not fit\n.*\n {2}found: nothing/],
    ['bits beside them', { types: ['q4'], bits: 3 }, /bits beside types/],
    ['steps beside them', { types: ['q4'], steps: [{ method: 'rtn' }] }, /steps beside types/],
  ])('refuses %s, where no compiler does', async (_, options, message) => {
    await expect(compressTypes({ model, ...options } as never)).rejects.toThrow(message);
  });
});

describe('a run of several types', () => {
  const contents = (folder: string) =>
    readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .filter((name) => /onnx$|yaml$|config/.test(name) && name.includes('.'))
      .sort()
      .map((name) => [name, bytesOf(folder, name).toString('latin1')]);

  it('that is interrupted in the second continues there, to the same bytes', async () => {
    const args = ['compress', model, '--types', 'q4,q2', ...short, '--no-speed', '--no-answers'];
    const [out, whole] = [scratch.path('stopped'), scratch.path('whole')];
    const first = await lapidary([...args, '--out', out], 'evaluate: ');
    expect([first.code, existsSync(out)]).toEqual([130, false]);
    expect(first.stderr).toContain('the same command continues');
    const listed = await answer(['journals', scratch.path('.'), '--json']);
    expect(JSON.parse(listed.stdout).journals).toMatchObject([
      { output: out, run: 'tiny: onnx, gptq 4 bits' },
    ]);
    const second = await lapidary([...args, '--out', out]);
    expect([second.code, second.stderr]).toEqual([0, expect.stringContaining('q4: Continuing at 100%.')]);
    expect((await answer([...args, '--out', whole])).code).toBe(0);
    expect(contents(out)).toEqual(contents(whole));
  });

  it('is shown before it is done', async () => {
    const dry = await answer(['compress', model, '--types', 'q4,fp16', ...short, '--dry-run', '--json']);
    const { types } = JSON.parse(dry.stdout) as { types: { steps: string[]; after: { bytes: number } }[] };
    expect(types.map(({ steps }) => steps[0])).toEqual([
      expect.stringMatching(/^gptq /),
      expect.stringMatching(/^keep form=floats/),
    ]);
    expect(types[0]!.after.bytes).toBeLessThan(types[1]!.after.bytes);
    expect((await answer(['compress', model, '--types', 'q4,fp16', '--memory'])).stdout).toMatch(/^fp16$/m);
  });

  it.each([
    ['a type that there is not', ['--types', 'q4,q5'], 'there is no type "q5"'],
    ['a type twice', ['--types', 'q4,Q4'], 'type q4 is named twice'],
    ['a format with one', ['--types', 'q4', '--format', 'mlx'], 'has one type a folder'],
    ['bits beside them', ['--types', 'q4,q8', '--bits', '4'], '--bits beside --types'],
    ['steps beside them', ['--types', 'q4', '--step', 'rtn'], '--step beside --types'],
    ['the engine of another format', ['--types', 'Q4_K_M', '--for', 'browser'], 'there is no type "Q4_K_M"'],
  ])('refuses %s', async (_, flags, message) => {
    const ended = await answer(['compress', model, ...flags]);
    expect([ended.code, ended.stderr]).toEqual([2, expect.stringContaining(message)]);
  });

  it('may name the method, which is for those that are quantized', async () => {
    const out = scratch.path('method');
    const flags = ['--types', 'q2,fp32', '--method', 'rtn', '--group', '64', '--evaluation', text];
    const ended = await answer(['compress', model, ...flags, '--no-speed', '--length', '32', '--out', out]);
    expect(ended.code, ended.stderr).toBe(0);
    expect(ended.stdout).toContain('2-bit');
    const { compressed } = parseReport(bytesOf(out, 'report-fp32.json').toString());
    expect(compressed.kl!.mean).toBeLessThan(1e-6);
  });
});
