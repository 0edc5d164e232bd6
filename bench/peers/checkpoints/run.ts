/**
 * GPTQ's, AWQ's and MLX's formats out and in, against the libraries that run them; one JSON line a case. Out: what we write
 * of a model, loaded by the library, must have our values, our logits within float16, and our greedy tokens. In: what the
 * library writes of it must open as the values that its own kernels dequantize.
 *
 *   npx tsx bench/peers/checkpoints/run.ts --python PYTHON [--model models/pebble] [--only gptq;awq]
 *     [--engine vllm]
 *
 * PYTHON has torch, transformers, safetensors, gptqmodel and mlx-lm (with mlx[cpu] on Linux). With --engine vllm what we
 * write for GPTQModel is loaded by vLLM in its place; PYTHON has that.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { toFloat32 } from '../../../src/base/half.ts';
import { stored } from '../../../src/base/tensor.ts';
import type { Encoding } from '../../../src/encodings/encoding.ts';
import { awqLayout } from '../../../src/export/safetensors/awq.ts';
import type { CheckpointLayout } from '../../../src/export/safetensors/folder.ts';
import { writeCheckpoint } from '../../../src/export/safetensors/folder.ts';
import { gptqLayout } from '../../../src/export/safetensors/gptq.ts';
import { mlxLayout } from '../../../src/export/safetensors/mlx.ts';
import { openCheckpoint } from '../../../src/io/checkpoint.ts';
import { openSafetensors } from '../../../src/io/safetensors/read.ts';
import { writeSafetensors } from '../../../src/io/safetensors/write.ts';
import { rtn } from '../../../src/methods/quantize/rtn.ts';
import { loadModel } from '../../../src/models/index.ts';
import type { Model } from '../../../src/models/model.ts';
import { logits } from '../../../src/models/runner.ts';
import { linearLayers } from '../../../src/models/size.ts';
import { runPython } from '../python.ts';

const { values: flags } = parseArgs({
  options: {
    python: { type: 'string', default: 'python3' },
    model: { type: 'string', default: 'models/pebble' },
    only: { type: 'string', default: '' },
    engine: { type: 'string', default: 'gptqmodel' },
  },
});
const scripts = {
  gptqmodel: new URL(`../${flags.engine}/check.py`, import.meta.url).pathname,
  mlx: new URL('../mlx/check.py', import.meta.url).pathname,
};
const tokens = 24;
const original = loadModel(await openCheckpoint(flags.model));
const ids = Int32Array.from({ length: 32 }, (_, i) => 1 + ((i * 37) % (original.config.vocabulary - 1)));

/** Of a matrix, by its name; undefined: it stays dense. */
type Options = (name: string) => Record<string, unknown> | undefined;
interface Case {
  readonly layout: (model: Model) => CheckpointLayout;
  readonly script: string;
  readonly options: Options;
}

const asGptq = { layout: gptqLayout, script: scripts.gptqmodel };
const asAwq = { layout: awqLayout, script: scripts.gptqmodel };
const asMlx = { layout: mlxLayout, script: scripts.mlx };
const mixed: Options = (name) => {
  if (name.includes('down_proj')) return undefined;
  return name.includes('mlp') ? { bits: 4, group: 64 } : { bits: 8, group: 32, symmetric: true };
};

const out: Record<string, Case> = {
  'gptq 4, group 32, symmetric': { ...asGptq, options: () => ({ symmetric: true }) },
  'gptq 4, group 128': { ...asGptq, options: () => ({ group: 128 }) },
  'gptq 4, rows': { ...asGptq, options: () => ({ group: -1 }) },
  'gptq 2': { ...asGptq, options: () => ({ bits: 2 }) },
  'gptq 3': { ...asGptq, options: () => ({ bits: 3 }) },
  'gptq 3, symmetric': { ...asGptq, options: () => ({ bits: 3, symmetric: true }) },
  'gptq 8': { ...asGptq, options: () => ({ bits: 8, group: 64 }) },
  'gptq mixed': { ...asGptq, options: mixed },
  'awq group 32': { ...asAwq, options: () => ({}) },
  'awq group 128': { ...asAwq, options: () => ({ group: 128 }) },
  'awq rows, symmetric': { ...asAwq, options: () => ({ group: -1, symmetric: true }) },
  'mlx 4': { ...asMlx, options: () => ({ scales: 'short' }) },
  'mlx 3, group 64': { ...asMlx, options: () => ({ bits: 3, group: 64, scales: 'short' }) },
  'mlx 2': { ...asMlx, options: () => ({ bits: 2, scales: 'short' }) },
  'mlx 8, rows': { ...asMlx, options: () => ({ bits: 8, group: -1, symmetric: true }) },
  'mlx mixed': { ...asMlx, options: mixed },
};

const into: Record<string, readonly [script: string, scheme: string]> = {
  'gptqmodel gptq 4': [scripts.gptqmodel, '{"bits":4,"group_size":32,"sym":true,"desc_act":false}'],
  'gptqmodel gptq 4, act-order': [scripts.gptqmodel, '{"bits":4,"group_size":32,"sym":true,"desc_act":true}'],
  'gptqmodel gptq 4, zero points': [scripts.gptqmodel, '{"bits":4,"group_size":64,"sym":false}'],
  'gptqmodel gptq 3': [scripts.gptqmodel, '{"bits":3,"group_size":32,"sym":true}'],
  'gptqmodel gptq 8': [scripts.gptqmodel, '{"bits":8,"group_size":-1,"sym":true,"act_group_aware":false}'],
  'gptqmodel awq': [scripts.gptqmodel, '{"bits":4,"group_size":32,"quant_method":"awq","format":"gemm"}'],
  'mlx-lm 4': [scripts.mlx, '{"q_bits":4,"q_group_size":64}'],
  'mlx-lm 3': [scripts.mlx, '{"q_bits":3,"q_group_size":32}'],
};

const wanted = (name: string) => flags.only.split(';').some((part) => name.includes(part));
const served = ({ script }: Case) => flags.engine !== 'vllm' || script === scripts.gptqmodel;
for (const [name, one] of Object.entries(out)) if (wanted(name) && served(one)) await written(name, one);
if (flags.engine !== 'vllm')
  for (const [name, one] of Object.entries(into)) if (wanted(name)) await read(name, ...one);

async function written(name: string, { layout, script, options }: Case) {
  await inFolder(async (folder) => {
    const model = await compressed(options, layout === mlxLayout);
    const path = join(folder, 'model');
    const { bytes } = await writeCheckpoint(model, path, layout(model), { floats: 'float16' });
    const expected = join(folder, 'expected.safetensors');
    await writeSafetensors(expected, await expectations(model));
    const found = python(script, ['read', path, expected]);
    print(name, { bytes, ours: await difference(model, loadModel(await openCheckpoint(path))), ...found });
  });
}

async function read(name: string, script: string, scheme: string) {
  await inFolder(async (folder) => {
    const found = python(script, ['write', flags.model, folder, scheme]);
    if (found.failed) return print(name, found);
    const model = loadModel(await openCheckpoint(folder));
    const expected = openSafetensors(join(folder, 'dense.safetensors')).tensors;
    let worst = 0;
    for (const [key, tensor] of expected)
      worst = Math.max(worst, distance(toFloat32(tensor), model.matrices.get(key)!.dense()));
    print(name, { matrices: expected.size, labels: labels(model), weights: worst, ...found });
  });
}

async function compressed(options: Options, tables: boolean): Promise<Model> {
  const matrices = new Map(original.matrices);
  for (const { name, encoding, layer } of linearLayers(original)) {
    const choice = tables || layer !== undefined ? options(name) : undefined;
    if (choice) matrices.set(name, await rounded(encoding, choice));
  }
  return { ...original, matrices };
}

function rounded(weight: Encoding, choice: Record<string, unknown>): Promise<Encoding> {
  const [rows, columns] = weight.shape;
  return rtn.compress({ rows, columns, values: weight.dense() }, { tokens: 0 }, rtn.options.parse(choice));
}

/** Logits of the ids, the greedy tokens after them, and the values of what is compressed. */
async function expectations(model: Model) {
  const result = await logits(model, [ids]);
  const vocabulary = model.config.vocabulary;
  const greedy: number[] = [];
  for (let step = 0; step < tokens; step++) {
    const { data } = await logits(model, [[...ids, ...greedy]]);
    const last = (data as Float32Array).subarray(-vocabulary);
    greedy.push(last.indexOf(last.reduce((a, b) => Math.max(a, b))));
  }
  const values = [...model.matrices].filter(([, { bits }]) => bits < 16);
  return new Map([
    ['ids', stored('int32', [ids.length], ids)],
    ['greedy', stored('int32', [tokens], Int32Array.from(greedy))],
    ['logits', stored('float32', [ids.length, vocabulary], result.data as Float32Array)],
    ...values.map(([name, { shape, dense }]) => [name, stored('float32', shape, dense())] as const),
  ]);
}

/** Of what we wrote, opened by ourselves: the largest difference of a value. */
async function difference(model: Model, again: Model): Promise<number> {
  let worst = 0;
  for (const [name, encoding] of model.matrices) {
    if (encoding.bits < 16)
      worst = Math.max(worst, distance(encoding.dense(), again.matrices.get(name)!.dense()));
  }
  return worst;
}

/** Largest difference by the largest value. */
function distance(expected: Float32Array, found: Float32Array): number {
  let [worst, largest] = [0, 0];
  for (let i = 0; i < expected.length; i++) {
    worst = Math.max(worst, Math.abs(expected[i] - found[i]));
    largest = Math.max(largest, Math.abs(expected[i]));
  }
  return expected.length === found.length ? worst / largest : Number.POSITIVE_INFINITY;
}

function labels(model: Model): string {
  return [...new Set([...model.matrices.values()].map(({ label }) => label))].join('; ');
}

function python(script: string, args: readonly string[]) {
  return runPython(flags.python, script, args);
}

function print(name: string, found: Record<string, unknown>) {
  console.log(JSON.stringify({ case: name, ...found }));
}

async function inFolder(work: (folder: string) => Promise<void>) {
  const folder = mkdtempSync(join(tmpdir(), 'lapidary-checkpoints-'));
  try {
    await work(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}
