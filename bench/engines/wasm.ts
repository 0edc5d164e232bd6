/**
 * How fast files run in a browser without WebGPU: onnxruntime-web's WebAssembly on one thread, in headless Chromium,
 * against float32; models of random weights as in encodings.ts.
 *
 *   npx tsx bench/engines/wasm.ts [--rounds 5] [--only TEXT]
 *
 * Each is run in turn with float32 and the least times count. One JSON line each: rates, times those of float32.
 * "restored once" is the session option session.disable_quant_qdq.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { ExportOptions } from '../../src/export/graph.ts';
import { exportTransformers } from '../../src/export/transformers.ts';
import { runInChromium } from '../../test/engines/chromium.ts';
import { engines } from '../../test/engines/transformers.ts';
import type { Encode } from './contenders.ts';
import { eightByEight, four, integersInGroups, modelOf, plain } from './contenders.ts';
import type { Times } from './times.ts';
import { rounded } from './times.ts';

const { values: flags } = parseArgs({
  options: { rounds: { type: 'string', default: '5' }, only: { type: 'string', default: '' } },
});

interface Run {
  readonly name: string;
  readonly encode: Encode;
  readonly options?: ExportOptions;
  /** Of the session. */
  readonly session?: object;
}

const once = { extra: { session: { disable_quant_qdq: '1' } } };
const runs: readonly Run[] = [
  { name: '4 bits', encode: four },
  { name: '8 bits', encode: integersInGroups(8, 32, false) },
  { name: '4 bits, dequantized', encode: four, options: { products: 'dequantized' } },
  {
    name: '8 bits, dequantized',
    encode: integersInGroups(8, 32, false),
    options: { products: 'dequantized' },
  },
  { name: 'w8a8', encode: eightByEight() },
  { name: '4 bits, qdq', encode: four, options: { products: 'qdq' } },
  { name: '4 bits, qdq, restored once', encode: four, options: { products: 'qdq' }, session: once },
  { name: '8 bits, qdq', encode: integersInGroups(8, 32, false), options: { products: 'qdq' } },
  {
    name: '8 bits, qdq, restored once',
    encode: integersInGroups(8, 32, false),
    options: { products: 'qdq' },
    session: once,
  },
  {
    name: '8 bits, whole rows, qdq, restored once',
    encode: integersInGroups(8, -1, false),
    options: { products: 'qdq' },
    session: once,
  },
];

/** In the page: sessions made one after the other, then runs in turn. */
const script = (files: readonly { readonly path: string; readonly session: object }[]) => `
  const ort = await import('/wasm/ort.wasm.min.mjs');
  ort.env.wasm.wasmPaths = '/wasm/';
  ort.env.wasm.numThreads = 1;
  const models = [];
  for (const { path, session: options } of ${JSON.stringify(files)}) {
    const begun = performance.now();
    const session = await ort.InferenceSession.create(path, { executionProviders: ['wasm'], ...options });
    models.push({ session, load: performance.now() - begun, prompt: Infinity, decode: Infinity });
  }
  const ints = (values, shape) => new ort.Tensor('int64', BigInt64Array.from(values, BigInt), shape);
  const step = async (session, ids, past, cache) => {
    const outputs = await session.run({
      ...cache,
      input_ids: ints(ids, [1, ids.length]),
      attention_mask: ints(Array(past + ids.length).fill(1), [1, past + ids.length]),
      num_logits_to_keep: ints([1], []),
    });
    const present = Object.entries(outputs).filter(([name]) => name.startsWith('present.'));
    return Object.fromEntries(present.map(([name, value]) => [name.replace('present.', 'past_key_values.'), value]));
  };
  const empty = (session) => Object.fromEntries(
    session.inputMetadata.filter(({ name }) => name.startsWith('past')).map(({ name, shape }) =>
      [name, new ort.Tensor('float32', new Float32Array(0), [1, shape[1], 0, shape[3]])]));
  for (let round = 0; round < ${flags.rounds}; round++) {
    for (const model of models) {
      const ids = Array.from({ length: 64 }, (_, i) => (i * 7919) % 8192);
      let started = performance.now();
      let cache = await step(model.session, ids, 0, empty(model.session));
      model.prompt = Math.min(model.prompt, performance.now() - started);
      for (let i = 0; i < 4; i++) {
        started = performance.now();
        cache = await step(model.session, [i], 64 + i, cache);
        model.decode = Math.min(model.decode, performance.now() - started);
      }
    }
  }
  return models.map(({ session, ...times }) => times);`;

const folder = mkdtempSync(join(tmpdir(), 'lapidary-bench-'));
try {
  const [base] = exportTransformers(await modelOf(plain), join(folder, 'base'));
  for (const [index, { name, encode, options = {}, session = {} }] of runs.entries()) {
    if (!name.includes(flags.only)) continue;
    const [file] = exportTransformers(await modelOf(encode), join(folder, `${index}`), { files: [options] });
    const files = [
      { path: `/models/base/${base!.path}`, session: {} },
      { path: `/models/${index}/${file!.path}`, session },
    ];
    const folders = { wasm: join(engines, 'onnxruntime-web/dist'), models: folder };
    const found = await runInChromium(script(files), folders);
    const [float, own] = found as readonly (Times & { readonly load: number })[];
    console.log(
      JSON.stringify({
        bench: 'engines/wasm',
        encoding: name,
        share: rounded(file!.bytes / base!.bytes),
        decode: rounded(float!.decode / own!.decode),
        prompt: rounded(float!.prompt / own!.prompt),
        load: rounded(own!.load / float!.load),
        tokenMs: rounded(own!.decode),
      }),
    );
    rmSync(join(folder, `${index}`), { recursive: true });
  }
} finally {
  rmSync(folder, { recursive: true });
}
