/** What `compress --dry-run` says of a result is what the run then stores, to the byte, in every format. */

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { DryRun } from '../src/plan/dry-run.ts';
import type { ReportData } from '../src/report/schema.ts';
import { answer, scratchFolder, writeStories } from './command-line.ts';
import { writeShortPebble, writeTinyCheckpoint } from './models/checkpoint.ts';

const scratch = scratchFolder();
afterAll(scratch.remove);
const [short, few] = [scratch.path('short'), scratch.path('few.jsonl')];
beforeAll(async () => {
  await writeShortPebble(short);
  writeStories(few, 20);
});
const quick = ['--sequences', '2', '--length', '32', '--no-speed', '--no-answers'];

describe('compress --dry-run', () => {
  it.each([
    ['onnx', ['--method', 'rtn', '--activations', 'float16']],
    ['onnx', ['--step', 'rtn bits=8 symmetric', '--step', 'hqq bits=2 targets=last', '--products', 'qdq']],
    ['onnx', ['--method', 'keep']],
    ['gguf', ['--method', 'ggml', '--type', 'Q4_K_M', '--fit', 'plain']],
    ['gguf', ['--method', 'rtn', '--bits', '4']],
    ['gptq', ['--method', 'rtn', '--symmetric']],
    ['awq', ['--method', 'rtn']],
    ['compressed-tensors', ['--method', 'w8a8']],
    ['mlx', ['--method', 'rtn', '--bits', '3', '--group', '64']],
  ])('as %s with %j', async (format, flags) => {
    const out = scratch.path([format, ...flags].join('').replace(/\W+/g, '-'));
    const args = ['compress', short, '--format', format, ...flags, '--out', out, ...quick, '--json'];
    const foreseen = await answer([...args, '--dry-run']);
    expect(foreseen.stderr).not.toContain('error');
    expect(existsSync(out)).toBe(false);
    const dry: DryRun = JSON.parse(foreseen.stdout);
    const run = await answer(args);
    expect(run.code, run.stderr).toBe(0);
    const report: ReportData = JSON.parse(readFileSync(join(out, 'report.json'), 'utf8'));
    expect(dry.about).toBe(false);
    expect([dry.before.bytes, dry.after.bytes]).toEqual([report.original.bytes, report.compressed.bytes]);
    if (!flags.includes('qdq'))
      expect(dry.after.bitsPerWeight / report.compressed.bitsPerWeight).toBeCloseTo(1, 1);
    const compressed = report.tensors.filter(({ method }) => method !== undefined && method !== 'keep');
    for (const { name, method, after: stored } of compressed) {
      const after = stored!;
      const matrix = dry.matrices.find((each) => each.name === name)!;
      expect([matrix.method, matrix.after.label]).toEqual([method, after.label]);
      // The report counts what codes take in memory, where these files have offsets, indices and scales besides.
      if (['mlx', 'gptq'].includes(format) || flags.includes('qdq'))
        expect(matrix.after.bytes).toBeGreaterThanOrEqual(after.bytes);
      else expect(matrix.after.bytes).toBe(after.bytes);
    }
  });

  it('of a model with heads behind earlier layers, one of which has a matrix of its own', async () => {
    const [model, out] = [scratch.path('exits'), scratch.path('with-exits')];
    await writeTinyCheckpoint(model, { num_hidden_layers: 4, early_exit_layers: [0, 2] });
    const args = ['compress', model, '--method', 'gptq', '--embedding-bits', '4', '--calibration', few];
    const dry: DryRun = JSON.parse(
      (await answer([...args, '--out', out, ...quick, '--json', '--dry-run'])).stdout,
    );
    const { code, stderr } = await answer([...args, '--out', out, '--sequences', '2', '--length', '32']);
    expect(code, stderr).toBe(0);
    const report: ReportData = JSON.parse(readFileSync(join(out, 'report.json'), 'utf8'));
    expect([dry.before.bytes, dry.after.bytes]).toEqual([report.original.bytes, report.compressed.bytes]);
    expect(report.original.multiplyAdds).toBe(report.compressed.multiplyAdds);
    const outside = report.tensors.filter(({ layer, method }) => layer === undefined && method !== undefined);
    expect(outside.map(({ name, kind, errorOf }) => [name, kind, errorOf])).toEqual([
      ['model.embed_tokens', 'embedding', 'weights'],
      ['exits.2.head', 'exit', 'outputs'],
    ]);
    const before = JSON.parse((await answer(['inspect', model, '--json'])).stdout);
    expect([before.exits, before.layers.length]).toEqual([[0, 2], 4]);
    expect(before.types[0].bytes).toBe(before.bytes);
    const after = await answer(['inspect', out]);
    expect(after.stdout).toMatch(/layers +4\n/);
    expect(after.stdout).toMatch(/head +is the embedding; others behind layers 0, 2\n/);
  });

  it('is about right where what is measured decides how the file multiplies', async () => {
    const out = scratch.path('measured');
    const args = ['compress', short, '--calibration', few, '--out', out, ...quick, '--json'];
    const dry: DryRun = JSON.parse((await answer([...args, '--dry-run'])).stdout);
    expect(dry.reason).toContain('loses least');
    const report = JSON.parse((await answer(args)).stdout);
    expect(dry.about).toBe(true);
    expect(Math.abs(dry.after.bytes / report.compressed.bytes - 1)).toBeLessThan(0.02);
  });

  it('shows what is alike in a line, the recipe as steps, what falls back, and what the run needs', async () => {
    const args = ['compress', short, '--format', 'gguf', '--type', 'Q4_K_M', '--fit', 'plain'];
    const { stdout, code } = await answer([...args, '--out', scratch.path('not'), '--dry-run']);
    expect(code).toBe(0);
    expect(stdout).toContain('--step "ggml fit=plain targets=blocks,embeddings"');
    expect(stdout).toMatch(/q_proj \[256, 256\] x 2 +ggml +bfloat16 +Q4_K/);
    expect(stdout).toMatch(/bits a weight +16\.00 +\d\.\d\d/);
    expect(stdout).toMatch(/the result +\d+\.\d+ MB/);
    expect(existsSync(scratch.path('not'))).toBe(false);
  });

  it('does not write text of the model to plan with', async () => {
    const { code, stdout, stderr } = await answer([
      'compress',
      short,
      '--generated-calibration',
      '--out',
      scratch.path('generated'),
      '--dry-run',
      '--json',
    ]);
    expect(code).toBe(0);
    expect(stderr).not.toContain('write');
    expect(JSON.parse(stdout).memory.phases.length).toBeGreaterThan(2);
  });
});
