/**
 * compressed-tensors in and out against its own library and transformers; one JSON line a scheme. Out: what we write of a
 * model, loaded by transformers, must give our logits, our values and our greedy tokens. In: what the library writes of it
 * must open as the values that its own decompressor makes.
 *
 *   npx tsx bench/peers/compressed-tensors/run.ts --python PYTHON [--model models/pebble] [--only W4A16]
 *     [--engine vllm]
 *
 * PYTHON has torch, transformers, safetensors and compressed-tensors. With --engine vllm what we write is loaded by vLLM
 * in its place; PYTHON has that.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { toFloat32 } from '../../../src/base/half.ts';
import { stored } from '../../../src/base/tensor.ts';
import type { Encoding } from '../../../src/encodings/encoding.ts';
import { integers } from '../../../src/encodings/integer.ts';
import type { LevelGroup, NumberName } from '../../../src/encodings/levels.ts';
import { roundedActivations } from '../../../src/encodings/rounded.ts';
import { compressedTensorsLayout } from '../../../src/export/safetensors/compressed-tensors.ts';
import { writeCheckpoint } from '../../../src/export/safetensors/folder.ts';
import { openCheckpoint } from '../../../src/io/checkpoint.ts';
import { openSafetensors } from '../../../src/io/safetensors/read.ts';
import { writeSafetensors } from '../../../src/io/safetensors/write.ts';
import { roundToLevels } from '../../../src/rounding/levels.ts';
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
    engine: { type: 'string', default: 'compressed-tensors' },
  },
});
const script = new URL(`../${flags.engine}/check.py`, import.meta.url).pathname;
const tokens = 24;
const original = loadModel(await openCheckpoint(flags.model));
const ids = Int32Array.from({ length: 32 }, (_, i) => 1 + ((i * 37) % (original.config.vocabulary - 1)));

type Make = (weight: Encoding, name: string) => Promise<Encoding>;

const grouped =
  (options: Record<string, unknown>): Make =>
  async ({ shape: [rows, columns], dense }) =>
    rtn.compress({ rows, columns, values: dense() }, { tokens: 0 }, rtn.options.parse(options));

const numbers =
  (name: NumberName, group?: LevelGroup): Make =>
  ({ shape: [rows, columns], dense }) =>
    roundToLevels({ rows, columns, values: dense() }, { numbers: name, group, range: 'minmax' });

/** Rows of 8 bits by their largest size. */
const rows8 =
  (input?: number): Make =>
  async ({ shape: [rows, columns], dense }) => {
    const values = dense();
    const scales = Float32Array.from({ length: rows }, (_, row) => {
      const largest = values
        .subarray(row * columns, (row + 1) * columns)
        .reduce((a, b) => Math.max(a, Math.abs(b)), 0);
      return Math.fround(largest / 127);
    });
    const codes = Int8Array.from(values, (value, at) => Math.round(value / scales[Math.floor(at / columns)]));
    return integers({ rows, columns, codes, scales, input });
  };

const out: Record<string, Make> = {
  'W4A16 group 32': grouped({ bits: 4, group: 32, symmetric: true }),
  'W4A16 group 64, zero points': grouped({ bits: 4, group: 64, symmetric: false }),
  'W4A16 rows': grouped({ bits: 4, group: -1, symmetric: true }),
  'W8A16 group 128': grouped({ bits: 8, group: 128, symmetric: true }),
  'W8A16 rows, zero points': grouped({ bits: 8, group: -1, symmetric: false }),
  'W3A16 group 32': grouped({ bits: 3, group: 32, symmetric: true }),
  'W3 group 32, zero points': grouped({ bits: 3, group: 32, symmetric: false }),
  'W2A16 group 32': grouped({ bits: 2, group: 32, symmetric: true }),
  'W2 group 32, zero points': grouped({ bits: 2, group: 32, symmetric: false }),
  'W8A8 by token': rows8(),
  'W8A8 static': rows8(0.05),
  'W4A8 group 32': async (weight, name) =>
    roundedActivations(await grouped({ bits: 4, group: 32, symmetric: true })(weight, name), { bits: 8 }),
  'FP8 rows': numbers('fp8-e4m3'),
  'FP8 tensor': numbers('fp8-e4m3', 'tensor'),
  MXFP8: numbers('mxfp8'),
  MXFP4: numbers('mxfp4'),
  NVFP4: numbers('nvfp4'),
  'W4A16 and NVFP4': (weight, name) =>
    (name.includes('mlp') ? numbers('nvfp4') : grouped({ bits: 4, group: 32, symmetric: true }))(
      weight,
      name,
    ),
  'W4A16 and W8A16': (weight, name) =>
    grouped({ bits: name.includes('mlp') ? 4 : 8, group: 32, symmetric: true })(weight, name),
};

const into: Record<string, string> = {
  'W4A16 preset': 'W4A16',
  'W4A16 asymmetric preset': 'W4A16_ASYM',
  'W8A16 preset': 'W8A16',
  'W8A8 preset': 'W8A8',
  'W4A8 preset': 'W4A8',
  'W3, groups of 64': '{"weights":{"num_bits":3,"strategy":"group","group_size":64}}',
  'W3, groups of 64, zero points':
    '{"weights":{"num_bits":3,"strategy":"group","group_size":64,"symmetric":false}}',
  'FP8 preset': 'FP8',
  'FP8_DYNAMIC preset': 'FP8_DYNAMIC',
  'FP8_BLOCK preset': 'FP8_BLOCK',
  'NVFP4A16 preset': 'NVFP4A16',
  'MXFP4A16 preset': 'MXFP4A16',
  'MXFP8A16 preset': 'MXFP8A16',
  'W2, rows': '{"weights":{"num_bits":2,"strategy":"channel"}}',
};

const python = (...args: string[]) => runPython(flags.python, script, args);

/** The blocks' matrices compressed. */
async function compressed(make: Make): Promise<Model> {
  const matrices = new Map(original.matrices);
  for (const { name, layer, encoding } of linearLayers(original))
    if (layer !== undefined) matrices.set(name, await make(encoding, name));
  return { ...original, matrices };
}

async function greedyTokens(model: Model): Promise<Int32Array> {
  const sequence = [...ids];
  for (let i = 0; i < tokens; i++) {
    const all = (await logits(model, [sequence])).data as Float32Array;
    const last = all.subarray(all.length - model.config.vocabulary);
    sequence.push(last.reduce((best, value, at) => (value > last[best] ? at : best), 0));
  }
  return Int32Array.from(sequence.slice(ids.length));
}

async function checkOut(name: string, make: Make, folder: string): Promise<void> {
  const model = await compressed(make);
  await writeCheckpoint(model, folder, compressedTensorsLayout(model, 'float32'), { floats: 'float32' });
  const expected = new Map([
    ['ids', stored('int32', [ids.length], ids)],
    [
      'logits',
      stored(
        'float32',
        [ids.length, model.config.vocabulary],
        (await logits(model, [ids])).data as Float32Array,
      ),
    ],
    ['greedy', stored('int32', [tokens], await greedyTokens(model))],
    ...[...model.matrices].flatMap(([matrix, { bits, shape, dense }]) =>
      bits < 16 ? [[matrix, stored('float32', shape, dense())] as const] : [],
    ),
  ]);
  const file = join(folder, 'expected');
  await writeSafetensors(file, expected);
  console.log(JSON.stringify({ bench: 'compressed-tensors out', name, ...python('read', folder, file) }));
}

async function checkIn(name: string, scheme: string, folder: string): Promise<void> {
  const { matrices, failed } = python('write', flags.model, folder, scheme);
  if (failed) return console.log(JSON.stringify({ bench: 'compressed-tensors in', name, failed }));
  const dense = openSafetensors(join(folder, 'dense.safetensors')).tensors;
  const model = loadModel(await openCheckpoint(folder));
  let [most, labels] = [0, new Set<string>()];
  for (const [matrix, tensor] of dense) {
    const [theirs, encoding] = [toFloat32(tensor), model.matrices.get(matrix)!];
    labels.add(encoding.label);
    const largest = theirs.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
    encoding.dense().forEach((value, at) => (most = Math.max(most, Math.abs(value - theirs[at]) / largest)));
  }
  console.log(
    JSON.stringify({ bench: 'compressed-tensors in', name, matrices, labels: [...labels], weights: most }),
  );
}

const chosen = <T>(cases: Record<string, T>) =>
  Object.entries(cases).filter(([name]) => name.includes(flags.only));
const scratch = mkdtempSync(join(tmpdir(), 'compressed-tensors-'));
try {
  for (const [i, [name, make]] of chosen(out).entries())
    await checkOut(name, make, join(scratch, `out-${i}`));
  for (const [i, [name, scheme]] of flags.engine === 'vllm' ? [] : chosen(into).entries())
    await checkIn(name, scheme, join(scratch, `in-${i}`));
} finally {
  rmSync(scratch, { recursive: true });
}
