/** What a run tells before its work: what was chosen, what is missing, what will not come out as one may expect. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { answer, scratchFolder, writeStories } from './command-line.ts';
import { writeTinyCheckpoint } from './models/checkpoint.ts';

const scratch = scratchFolder();
afterAll(scratch.remove);
const [model, text] = [scratch.path('tiny'), scratch.path('text.jsonl')];
beforeAll(async () => {
  await writeTinyCheckpoint(model);
  writeStories(text, 8);
});

/** What is said before the first phase ends; nothing is computed. */
async function said(...flags: string[]): Promise<string> {
  const { code, stderr } = await answer(['compress', model, '--memory', ...flags]);
  expect(code, stderr).toBe(0);
  return stderr;
}
const fitted = ['--calibration', text, '--sequences', '4', '--length', '32'];

describe('before the work it is told', () => {
  it('what was chosen and why, in one plain line', async () => {
    const four = await said(...fitted);
    expect(four).toContain('Chosen: gptq, 4 bits, groups of 32: it loses least of what takes minutes.\n');
    expect(await said('--bits', '3', '--for', 'mlx', ...fitted)).toContain(
      'Chosen: gptq, 3 bits, groups of 64',
    );
    expect(await said('--method', 'gptq', ...fitted)).not.toContain('Chosen');
  });

  it('that there is no text, what is done then, and what would help', async () => {
    const none = await said();
    expect(none).toMatch(/^No text: rtn, and nothing will be measured; --calibration FILE or --generated/);
    expect(none).toContain('Chosen: rtn, 4 bits, groups of 32');
    expect(await said('--method', 'rtn', '--evaluation', text)).not.toContain('No text');
  });

  it.each([
    [
      'onnxruntime',
      '3-bit weights take 4 bits in this format (ONNX for transformers.js): --bits 4 is as small',
    ],
    ['vllm', '3-bit weights take 4 bits in this format (compressed-tensors for vLLM): --bits 4 is as small'],
  ])('that three bits save nothing for %s, and what stores three', async (engine, line) => {
    const three = await said('--bits', '3', '--for', engine, ...fitted);
    expect(three).toContain(`warning: ${line}`);
    expect(three).toMatch(/; --for llama\.cpp without --method \(Q3_K_M\) or --for mlx stores 3\n/);
    expect(await said('--bits', '4', '--for', engine, ...fitted)).not.toContain('warning: 4-bit');
  });

  it('and of a format that stores three the report counts three', async () => {
    const flags = ['--method', 'rtn', '--bits', '3', '--group', '32', '--embedding-bits', '16', '--json'];
    const bits: Record<string, number> = {};
    for (const format of ['mlx', 'onnx']) {
      const run = [
        '--format',
        format,
        '--no-speed',
        '--no-answers',
        '--out',
        scratch.path(`three-${format}`),
      ];
      const { stdout } = await answer(['compress', model, ...flags, ...run]);
      const { compressed, layers } = JSON.parse(stdout);
      bits[format] = compressed.bitsPerWeight;
      const [{ encoding, bytesAfter }] = layers;
      // 64 x 64 codes, and a scale and an offset for each 32.
      expect([format, encoding.startsWith('3-bit stored in 4')]).toEqual([format, format === 'onnx']);
      if (format === 'mlx') expect(bytesAfter).toBe((64 * 64 * 3) / 8 + (64 * 64 * 2 * 2) / 32);
    }
    expect(bits.mlx).toBeLessThan(bits.onnx!);
  });

  it('that GGUF has no narrow integers, once', async () => {
    const flags = ['--format', 'gguf', '--method', 'rtn', '--bits', '2', '--embedding-bits', '8'];
    const line = '2-bit weights take 4 bits in this format (GGUF for llama.cpp)';
    expect(await said(...flags)).toContain(line);
    const run = ['--no-speed', '--no-answers', '--json', '--out', scratch.path('narrow')];
    const { code, stdout, stderr } = await answer(['compress', model, ...flags, ...run]);
    expect(code, stderr).toBe(0);
    const notes: string[] = JSON.parse(stdout).notes;
    expect(notes.filter((note) => note.includes('2-bit'))).toEqual([expect.stringContaining(line)]);
  });

  it('that compressed-tensors has bytes where inputs are rounded, and ONNX what was asked for', async () => {
    const flags = ['--method', 'w4a8', '--bits', '4', '--symmetric', ...fitted];
    const line =
      '4-bit weights whose inputs are rounded take 8 bits in this format (compressed-tensors for vLLM): more bits are as small and lose less';
    expect(await said('--for', 'vllm', ...flags)).toContain(line);
    expect(await said('--format', 'onnx', ...flags)).not.toContain('whose inputs');
  });

  it('that its heads are too narrow for a cache of integers', async () => {
    const narrow = scratch.path('narrow-heads');
    await writeTinyCheckpoint(narrow, {
      num_attention_heads: 8,
      num_key_value_heads: 4,
      num_hidden_layers: 1,
    });
    const { code, stderr } = await answer(['compress', narrow, '--cache', 'int8', '--memory']);
    expect([code, stderr]).toEqual([3, expect.stringContaining('cannot hold its cache in integers')]);
  });

  it('that a GGUF file does not say how inputs are rounded', async () => {
    const line = 'GGUF says nothing of how inputs are rounded: what w4a8 rounds them to is lost';
    expect(await said('--format', 'gguf', '--method', 'w4a8', ...fitted)).toContain(line);
    expect(await said('--format', 'gguf', '--method', 'rtn', ...fitted)).not.toContain('how inputs');
  });

  it.each([
    ['mlx', []],
    ['llama.cpp', []],
    ['vllm', ['--method', 'gptq', '--symmetric']],
  ])('nothing of the kind for %s, which stores three (%j)', async (engine, flags) => {
    expect(await said('--bits', '3', '--for', engine, ...flags, ...fitted)).not.toContain(
      '3-bit weights take',
    );
  });

  it('which block types rows do not fill, what is taken, and what is best then', async () => {
    const told = await said('--for', 'llama.cpp', '--bits', '3', ...fitted);
    // 64 and 96 columns; everything is stored in blocks of 32.
    expect(told).toMatch(/57 of 57 matrices have rows that are no multiple of 256 weights/);
    expect(told).toMatch(/Q3_K as Q4_0 \(\d+\)/);
    expect(told).toMatch(/That makes 6\.\d\d bits a weight, not 4\.\d\d/);
    expect(told).toMatch(/Best at such widths: --type Q4_K_M, 6\.\d\d bits in place of 6\.\d\d/);
    const whole = await said('--format', 'gguf', '--type', 'Q4_0', '--pure', ...fitted);
    expect(whole).not.toContain('multiple of 256');
  });
});

describe('text that the model writes itself', () => {
  it('is measured on by a part that nothing was fitted to, and the report says so', async () => {
    const out = scratch.path('generated');
    const flags = ['--generated-calibration', '--sequences', '4', '--length', '32', '--no-speed', '--json'];
    const { code, stdout, stderr } = await answer(['compress', model, ...flags, '--out', out]);
    expect(code, stderr).toBe(0);
    expect(stderr).not.toContain('No text');
    const report = JSON.parse(stdout);
    expect(report.compressed.kl.mean).toBeGreaterThan(0);
    expect(report.notes.join()).not.toContain('no text to measure on');
    const { evaluation, notes } = JSON.parse(readFileSync(join(out, 'report.json'), 'utf8'));
    expect(evaluation.data).toBe('text that the model wrote itself, held out');
    expect(notes.join()).not.toContain('Recommended');
  });
});
