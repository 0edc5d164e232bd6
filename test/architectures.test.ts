/** Every architecture against what transformers computes for a tiny random model of it. */

import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { toFloat32 } from '../src/base/half.ts';
import { random } from '../src/base/random.ts';
import { gradient } from '../src/graph/gradient.ts';
import { floats, mul, reduceSum } from '../src/graph/ops.ts';
import type { Feeds } from '../src/graph/session.ts';
import { feedsOf, openSession, tensor } from '../src/graph/session.ts';
import { openCheckpoint } from '../src/io/checkpoint.ts';
import { openSafetensors } from '../src/io/safetensors/read.ts';
import { wholeGraph } from '../src/models/build.ts';
import { findArchitecture, loadModel } from '../src/models/index.ts';
import { idsTensor, logits, openRunner } from '../src/models/runner.ts';
import { architectures } from './engines/models.ts';
import { loadTokenizer } from '../src/tokenizer/tokenizer.ts';

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

describe.each(architectures)('%s', (name) => {
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

describe.each(architectures)('%s', (name) => {
  it('has a gradient that agrees with differences of the loss', async () => {
    const { model, ids } = await open(name);
    const { graph, logits: scores } = wholeGraph(model, { weightsAs: 'inputs', batch: 1, time: 12 });
    const { normal } = random(3);
    const weighted = mul(
      scores,
      floats(graph, Float32Array.from({ length: 12 * 256 }, normal), [1, 12, 256]),
    );
    const loss = reduceSum(weighted, [0, 1, 2]);
    const weights = [...graph.weights.values()].map(({ value }) => value);
    graph.output('loss', loss);
    gradient(loss, weights).forEach((value, i) => {
      graph.output(`gradient ${weights[i].name}`, value);
    });
    const session = await openSession(graph);
    const feeds: Feeds = { ...feedsOf(graph.weights), ids: idsTensor([ids[0].slice(0, 12)], 256) };
    const along = new Map(
      weights.map(({ name }) => [name, Float32Array.from(feeds[name].data as Float32Array, normal)]),
    );
    const lossAt = async (step: number) => {
      const moved = weights.map(({ name, shape }) => {
        const values = (feeds[name].data as Float32Array).map(
          (value, i) => value + step * along.get(name)![i],
        );
        return [name, tensor('float32', shape as number[], values)];
      });
      return (await session.run({ ...feeds, ...Object.fromEntries(moved) }, ['loss'])).loss.data[0] as number;
    };
    const result = await session.run(feeds);
    const slope = weights.reduce((total, { name }) => {
      const values = result[`gradient ${name}`].data as Float32Array;
      return values.reduce((sum, value, i) => sum + value * along.get(name)![i], total);
    }, 0);
    const step = 2e-5;
    const difference = ((await lossAt(step)) - (await lossAt(-step))) / (2 * step);
    expect(Math.abs(difference / slope - 1)).toBeLessThan(0.02);
    await session.release();
  });
});

describe('an architecture that is not known', () => {
  it('is refused with the list of those that are', () => {
    expect(() => findArchitecture({ model_type: 'mamba' })).toThrowError(
      /not known[\s\S]*bloom, falcon, gemma, [\s\S]*, llama, [\s\S]*"mamba"/,
    );
  });
});

/** Sum of -log p of each next token within the first `lengths[row]` of a row, and how many those are. */
function negativeLogLikelihood(logits: Float32Array, vocabulary: number, rows: readonly Int32Array[]) {
  const time = Math.max(...rows.map(({ length }) => length));
  let nats = 0;
  let tokens = 0;
  rows.forEach((ids, row) => {
    for (let i = 0; i + 1 < ids.length; i++) {
      const at = (row * time + i) * vocabulary;
      const scores = logits.subarray(at, at + vocabulary);
      const most = scores.reduce((a, b) => Math.max(a, b));
      const sum = scores.reduce((total, score) => total + Math.exp(score - most), 0);
      nats += most + Math.log(sum) - scores[ids[i + 1]];
      tokens++;
    }
  });
  return { nats, tokens };
}

const folder = '../shared/models/stories260K-hf';
const text = '../shared/data/tinystories/tiny.utf8';
const present = existsSync(folder) && existsSync(text);

describe('stories260K, a trained Llama', () => {
  it.skipIf(!present)(`has 1.2451 nats a token on 40 stories (needs ${folder})`, async () => {
    const model = loadModel(await openCheckpoint(folder));
    const tokenizer = loadTokenizer(model.files);
    const stories = readFileSync(text, 'utf8')
      .split('<|endoftext|>')
      .map((story) => story.trim())
      .filter((story) => story !== '')
      .slice(0, 40)
      .map((story) => tokenizer.encode(story, { bos: true }).slice(0, model.config.context));
    // Sequences of unlike lengths in one batch: padding must not show.
    const batches = Array.from({ length: 5 }, (_, i) => stories.slice(8 * i, 8 * i + 8));
    const runner = openRunner(model);
    let [nats, tokens] = [0, 0];
    const [embed, head] = [await runner.embed(), await runner.head()];
    const blocks = await Promise.all(model.config.layers.map((_, layer) => runner.block(layer)));
    for (const batch of batches) {
      let { hidden } = await embed.run({ ids: idsTensor(batch, model.config.vocabulary) });
      for (const block of blocks) ({ hidden } = await block.run({ x: hidden }));
      const { logits } = await head.run({ x: hidden });
      const sums = negativeLogLikelihood(logits.data as Float32Array, model.config.vocabulary, batch);
      nats += sums.nats;
      tokens += sums.tokens;
    }
    await runner.release();
    expect(tokens).toBe(12571);
    expect(Math.abs(nats / tokens - 1.2451)).toBeLessThan(1e-4);
  });
});
