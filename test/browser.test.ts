/** What is written for transformers.js, run in a browser: onnxruntime-web's WebAssembly in headless Chromium. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { floatToBfloat } from '../src/base/half.ts';
import { stored } from '../src/base/tensor.ts';
import { dense } from '../src/encodings/dense.ts';
import { exportTransformers } from '../src/export/transformers.ts';
import { writeText } from '../src/generate/generate.ts';
import type { Model } from '../src/models/model.ts';
import { logits } from '../src/models/runner.ts';
import { openFile } from '../src/evaluate/file.ts';
import { answer } from './command-line.ts';
import { chromium, runInChromium } from './engines/chromium.ts';
import { expectedOf, maxDifference, numerals, openGolden, quantized } from './engines/models.ts';
import { engines, transformers } from './engines/transformers.ts';
import { writeTinyCheckpoint } from './models/checkpoint.ts';

const ready = chromium !== undefined && transformers !== undefined;
const reason = chromium ? 'run node test/engines/install.js' : 'there is no Chromium; CHROMIUM may name one';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'lapidary-browser-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Logits of a prompt and what follows it greedily, as the browser computes them. */
function inBrowser(ids: readonly number[], tokens: number, from = folder): Promise<unknown> {
  const script = `
    const { env, AutoModelForCausalLM, Tensor } = await import('/transformers/transformers.min.js');
    env.allowRemoteModels = false;
    env.allowLocalModels = true;
    env.localModelPath = '/';
    env.useBrowserCache = false;
    env.backends.onnx.wasm.wasmPaths = '/wasm/';
    const model = await AutoModelForCausalLM.from_pretrained('model', { device: 'wasm' });
    const ids = ${JSON.stringify(ids)};
    const tensor = (values) => new Tensor('int64', BigInt64Array.from(values, BigInt), [1, values.length]);
    const inputs = { input_ids: tensor(ids), attention_mask: tensor(ids.map(() => 1)) };
    const { logits } = await model(inputs);
    const all = await model.generate({ ...inputs, max_new_tokens: ${tokens}, do_sample: false });
    return { logits: Array.from(logits.data), ids: Array.from(all.data, Number).slice(ids.length) };`;
  return runInChromium(script, {
    transformers: join(engines, '@huggingface/transformers/dist'),
    wasm: join(engines, 'onnxruntime-web/dist'),
    model: from,
  });
}

/** As most checkpoints are stored. */
function inBfloat16(model: Model): Model {
  const rounded = [...model.matrices].map(([name, encoding]) => {
    const values = floatToBfloat(encoding.dense());
    return [name, dense(stored('bfloat16', encoding.shape, values))] as const;
  });
  return { ...model, matrices: new Map(rounded) };
}

describe.skipIf(!ready)(`Chromium${ready ? '' : ` (skipped: ${reason})`}`, () => {
  it.each([
    { what: 'four bits, external data, plain attention', golden: 'llama', bits: 4, externalThreshold: 1 },
    {
      what: 'four bits, tied, fused attention',
      golden: 'llama-tied-llama3rope',
      bits: 4,
      externalThreshold: undefined,
    },
    { what: 'bfloat16', golden: 'qwen3', bits: undefined, externalThreshold: undefined },
  ] as const)(
    '$what: logits and greedy ids of the model in memory',
    async ({ golden, bits, externalThreshold }) => {
      const original = await openGolden(golden);
      const model = bits ? await quantized(original, bits) : inBfloat16(original);
      exportTransformers(model, folder, externalThreshold ? { externalThreshold } : {});
      const ids = expectedOf(golden).ids[0].slice(0, 12);
      const found = (await inBrowser(ids, 8)) as { logits: number[]; ids: number[] };
      const inMemory = (await logits(model, [ids])).data as Float32Array;
      expect(maxDifference(found.logits, inMemory)).toBeLessThan(1e-3);
      const ours = await writeText({ source: model, tokenizer: numerals }, ids.join(' '), { maxTokens: 8 });
      expect(found.ids.slice(0, ours.ids.length)).toEqual(ours.ids);
    },
  );

  it.each([
    { what: 'products of integers', flags: [], method: 'w8a8', within: 0.4 },
    { what: 'weights restored at load', flags: ['--bits', '4'], method: 'rtn', within: 1e-3 },
  ])('--for wasm $flags, $what: what the file gives elsewhere', async ({ flags, method, within }) => {
    const [tiny, out] = [join(folder, 'tiny'), join(folder, `wasm-${method}`)];
    await writeTinyCheckpoint(tiny, { num_hidden_layers: 2 });
    const quick = ['--no-speed', '--no-answers', '--json'];
    const args = ['compress', tiny, '--for', 'wasm', '--out', out, ...quick, ...flags];
    const { code, stdout, stderr } = await answer(args);
    expect(code, stderr).toBe(0);
    const { file, recipe } = JSON.parse(stdout);
    expect(recipe.steps[0].method).toBe(method);
    const ids = [1, 400, 500, 600, 700, 800, 900, 1000];
    const found = (await inBrowser(ids, 8, out)) as { logits: number[]; ids: number[] };
    const path = join(out, file.path);
    const runner = await openFile(path, { threads: 1 });
    const expected = (await runner.step(Int32Array.from(ids), 0, runner.empty(), 0)).logits
      .data as Float32Array;
    await runner.close();
    // Inputs that are near the middle of two codes may be rounded to either.
    expect(maxDifference(found.logits, expected)).toBeLessThan(within);
    const ours = await writeText({ source: path, tokenizer: numerals }, ids.join(' '), { maxTokens: 8 });
    expect(found.ids.slice(0, ours.ids.length)).toEqual(ours.ids);
  });
});
