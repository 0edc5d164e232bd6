/**
 * What the engine costs over its matrix products: a Llama of about 10M parameters, forward and forward plus backward,
 * against ONNX Runtime's own 2048 x 2048 x 2048 MatMul in the same process.
 *
 *   npx tsx bench/graph/llama.ts [--rounds 9] [--batch 8] [--time 256] [--threads N]
 *
 * Only the products' operations are counted (2 for a multiply-add; attention in full, as it is computed), norms,
 * softmax and the like are not. The three are measured in turn, round by round, so that whatever else the machine does
 * falls on all of them; each line gives medians, and the median of the rounds' ratios.
 */

import { parseArgs } from 'node:util';
import type { Stored } from '../../src/base/tensor.ts';
import { stored } from '../../src/base/tensor.ts';
import { dense } from '../../src/encodings/dense.ts';
import type { Encoding } from '../../src/encodings/encoding.ts';
import { median } from '../../src/evaluate/bootstrap.ts';
import { gradient } from '../../src/graph/gradient.ts';
import { Graph } from '../../src/graph/graph.ts';
import { matmul } from '../../src/graph/ops.ts';
import type { Feeds, Session } from '../../src/graph/session.ts';
import { feedsOf, openSession, tensor } from '../../src/graph/session.ts';
import { wholeGraph } from '../../src/models/build.ts';
import { llama } from '../../src/models/architectures/llama.ts';
import type { Model } from '../../src/models/model.ts';
import { crossEntropy } from '../../src/train/loss.ts';

const { values: flags } = parseArgs({
  options: {
    rounds: { type: 'string', default: '9' },
    batch: { type: 'string', default: '8' },
    time: { type: 'string', default: '256' },
    threads: { type: 'string' },
  },
});
const [rounds, batch, time] = [flags.rounds, flags.batch, flags.time].map(Number);
const threads = flags.threads === undefined ? {} : { threads: Number(flags.threads) };

const json = {
  model_type: 'llama',
  hidden_size: 384,
  intermediate_size: 1024,
  num_hidden_layers: 6,
  num_attention_heads: 6,
  num_key_value_heads: 6,
  vocab_size: 512,
  max_position_embeddings: 1024,
  rms_norm_eps: 1e-5,
  tie_word_embeddings: true,
};
const config = llama.configure(json);

let state = 1;
/** Uniform in +-0.06, about the spread of trained weights of this width. */
function noise(shape: readonly number[]): Stored {
  const values = new Float32Array(shape.reduce((a, b) => a * b, 1));
  for (let i = 0; i < values.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    values[i] = (state / 2 ** 32 - 0.5) * 0.12;
  }
  return stored('float32', shape, values);
}

/** Random weights; the config says their shapes. */
function randomModel(): Model {
  const { hidden, vocabulary, layers } = config;
  const matrices = new Map<string, Encoding>([['model.embed_tokens', dense(noise([vocabulary, hidden]))]]);
  const ones = stored('float32', [hidden], new Float32Array(hidden).fill(1));
  const vectors = new Map([['model.norm.weight', ones]]);
  for (const [i, { heads, keyValueHeads, headSize, intermediate }] of layers.entries()) {
    const name = llama.layerName(i);
    const add = (part: string, rows: number, columns: number) =>
      matrices.set(`${name}.${part}`, dense(noise([rows, columns])));
    add('self_attn.q_proj', heads * headSize, hidden);
    add('self_attn.k_proj', keyValueHeads * headSize, hidden);
    add('self_attn.v_proj', keyValueHeads * headSize, hidden);
    add('self_attn.o_proj', hidden, heads * headSize);
    add('mlp.gate_proj', intermediate, hidden);
    add('mlp.up_proj', intermediate, hidden);
    add('mlp.down_proj', hidden, intermediate);
    for (const norm of ['input_layernorm', 'post_attention_layernorm'])
      vectors.set(`${name}.${norm}.weight`, ones);
  }
  return { architecture: llama, config, matrices, vectors, files: new Map(), source: 'random' };
}

const model = randomModel();
const parameters = [...model.matrices.values()].reduce(
  (total, { shape: [rows, columns] }) => total + rows * columns,
  0,
);
const ids = BigInt64Array.from({ length: batch * time }, (_, i) => BigInt((i * 7919) % config.vocabulary));
const idsTensor = tensor('int64', [batch, time], ids);

interface Contender {
  readonly name: string;
  readonly session: Session;
  readonly feeds: Feeds;
  /** Of matrix products, in one run. */
  readonly operations: number;
}

const reference = async (size: number): Promise<Contender> => {
  const graph = new Graph('inputs');
  const shape = [size, size];
  graph.output('c', matmul(graph.weight('a', noise(shape)), graph.weight('b', noise(shape))));
  const session = await openSession(graph, threads);
  return { name: 'matmul', session, feeds: feedsOf(graph.weights), operations: 2 * size ** 3 };
};

/** Weights' products, and the two of attention. */
const forwardOperations =
  2 * parameters * batch * time +
  config.layers.reduce((total, { heads, headSize }) => total + 4 * batch * heads * time * time * headSize, 0);

async function forward(): Promise<Contender> {
  const { graph, logits } = wholeGraph(model, { weightsAs: 'initializers', batch, time });
  graph.output('logits', logits);
  const session = await openSession(graph, threads);
  return { name: 'forward', session, feeds: { ids: idsTensor }, operations: forwardOperations };
}

async function forwardBackward(): Promise<Contender> {
  const { graph, logits } = wholeGraph(model, { weightsAs: 'inputs', batch, time });
  const targets = graph.input('targets', 'int32', [batch, time]);
  const loss = crossEntropy(logits, targets);
  const weights = [...graph.weights].map(([name, { value }]) => ({ name, value }));
  const gradients = gradient(
    loss,
    weights.map(({ value }) => value),
  );
  graph.output('loss', loss);
  for (const [i, { name }] of weights.entries()) graph.output(`gradient/${name}`, gradients[i]);
  const session = await openSession(graph, threads);
  const feeds = {
    ...feedsOf(graph.weights),
    ids: idsTensor,
    targets: tensor('int32', [batch, time], Int32Array.from(ids, Number)),
  };
  return { name: 'forward+backward', session, feeds, operations: 3 * forwardOperations };
}

/** Operations a second of one run, in billions. */
async function rate({ session, feeds, operations }: Contender): Promise<number> {
  const start = performance.now();
  await session.run(feeds);
  return operations / (performance.now() - start) / 1e6;
}

const matrix = await reference(2048);
const contenders = [await forward(), await forwardBackward()];
for (const each of [matrix, ...contenders]) await rate(each);
const rates = new Map(contenders.map(({ name }) => [name, [] as { own: number; matmul: number }[]]));
for (let round = 0; round < rounds; round++) {
  for (const each of contenders) {
    const before = await rate(matrix);
    const own = await rate(each);
    const after = await rate(matrix);
    rates.get(each.name)!.push({ own, matmul: (before + after) / 2 });
  }
}
for (const [name, list] of rates) {
  const line = {
    bench: `graph/llama ${name}`,
    parameters,
    batch,
    time,
    rounds,
    gflops: Math.round(median(list.map(({ own }) => own))),
    matmulGflops: Math.round(median(list.map(({ matmul }) => matmul))),
    ratio: Number(median(list.map(({ own, matmul }) => own / matmul)).toFixed(3)),
  };
  console.log(JSON.stringify(line));
}
