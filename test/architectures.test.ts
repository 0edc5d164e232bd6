/** Every architecture against what transformers computes for a tiny random model of it. */

import { existsSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { toFloat32 } from '../src/base/half.ts';
import { openSession } from '../src/graph/session.ts';
import { openCheckpoint } from '../src/io/checkpoint.ts';
import { openSafetensors } from '../src/io/safetensors/read.ts';
import { wholeGraph } from '../src/models/build.ts';
import { findArchitecture, loadModel } from '../src/models/index.ts';
import { idsTensor, logits } from '../src/models/runner.ts';

const cases = ['llama', 'llama-tied-llama3rope', 'llama-bias', 'mistral', 'qwen2', 'qwen3', 'gpt2'];

async function open(name: string) {
  const folder = new URL(`models/${name}`, import.meta.url).pathname;
  const model = loadModel(await openCheckpoint(folder));
  const { tensors } = openSafetensors(`${folder}/expected.safetensors`);
  const expected = toFloat32(tensors.get('logits')!);
  const idTensor = tensors.get('input_ids')!;
  const all = new BigInt64Array(idTensor.bytes().slice().buffer);
  const [batch, time] = idTensor.shape;
  const ids = Array.from({ length: batch }, (_, row) =>
    Int32Array.from(all.slice(row * time, (row + 1) * time), Number),
  );
  return { model, expected, ids, time };
}

function maxDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  expect(a.length).toBe(b.length);
  let most = 0;
  // A NaN on either side makes the difference infinite.
  for (let i = 0; i < a.length; i++) {
    const difference = Math.abs(a[i] - b[i]);
    most = Math.max(most, Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference);
  }
  return most;
}

describe.each(cases)('%s', (name) => {
  it('block by block gives the logits of transformers within 1e-4', async () => {
    const { model, expected, ids } = await open(name);
    const result = await logits(model, ids);
    expect(maxDifference(result.data as Float32Array, expected)).toBeLessThan(1e-4);
  });

  it('as one graph gives them too', async () => {
    const { model, expected, ids, time } = await open(name);
    const whole = wholeGraph(model, { weightsAs: 'initializers', batch: ids.length, time });
    whole.graph.output('logits', whole.logits);
    const session = await openSession(whole.graph);
    const result = await session.run({ ids: idsTensor(ids, model.config.vocabulary) });
    expect(maxDifference(result.logits.data as Float32Array, expected)).toBeLessThan(1e-4);
    await session.release();
  });
});
