import { existsSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { toFloat32 } from '../base/half.ts';
import { random } from '../base/random.ts';
import { stored } from '../base/tensor.ts';
import { denseValues } from '../encodings/dense.ts';
import { reshape } from '../graph/ops.ts';
import { openCheckpoint } from '../io/checkpoint.ts';
import type { Importance } from '../contract/gradients.ts';
import type { LinearMethod } from '../contract/method.ts';
import type { Statistic, StatisticKind } from '../contract/statistic.ts';
import { rtn } from '../methods/quantize/rtn.ts';
import { gpt2 } from '../models/architectures/gpt2.ts';
import { loadModel } from '../models/index.ts';
import type { Model } from '../models/model.ts';
import { idsTensor, openRunner } from '../models/runner.ts';
import { loadTokenizer } from '../tokenizer/tokenizer.ts';
import { readDocuments } from './data.ts';
import { predictionGradients } from './importance.ts';
import { packSequences } from './sequences.ts';
import { targetsOf } from './targets.ts';
import { walk } from './walk.ts';

const folder = '../shared/models/stories260K-hf';
const stories = '../shared/data/tinystories/tiny.utf8';
const here = existsSync(folder) && existsSync(stories);

/** Keeps what it was given and multiplies the weights by a factor. */
function recording(kind: StatisticKind, factor = 1) {
  const seen = new Map<number, Statistic & { rows: number; columns: number }>();
  const method: LinearMethod<unknown> = {
    shape: 'linear',
    name: 'scale',
    summary: 'Multiplies every weight; for tests.',
    options: z.unknown(),
    statistic: () => kind,
    async compress({ rows, columns, values }, statistic) {
      const { tokens, squares, gram } = statistic;
      seen.set(seen.size, { tokens, squares: squares?.slice(), gram: gram?.slice(), rows, columns });
      statistic.gram?.fill(Number.NaN);
      statistic.squares?.fill(Number.NaN);
      return denseValues(
        values.map((value) => factor * value),
        rows,
        columns,
      );
    },
  };
  return { method, seen };
}

describe.skipIf(!here)('the walk over stories260K (needs ../shared)', () => {
  let model: Model;
  let sequences: readonly Int32Array[];
  const blocks = (method: LinearMethod<unknown>) => (target: { place: string }) =>
    target.place === 'block' ? { method, options: {} } : undefined;

  beforeAll(async () => {
    const checkpoint = await openCheckpoint(folder);
    model = loadModel(checkpoint);
    const documents = (await readDocuments(stories, { separator: '<|endoftext|>' })) as string[];
    const options = { length: 64, count: 96, seed: 3 };
    sequences = packSequences(documents, loadTokenizer(checkpoint.files), options).sequences;
  });

  /** X^T X of the first block's distinct inputs in float64. */
  async function gramsInDouble(
    columns: number,
    text = sequences,
    importance?: Importance,
  ): Promise<Float64Array[]> {
    const runner = openRunner(model, { longest: 64 });
    const names = ['self_attn.q_proj', 'self_attn.o_proj', 'mlp.gate_proj', 'mlp.down_proj'];
    const embed = await runner.embed();
    const block = await runner.block(0, {
      extend: ({ graph, scope }) => {
        for (const name of names) {
          const { input } = scope.linears.get(`model.layers.0.${name}`)!;
          graph.output(name, reshape(input, [-1, input.shape.at(-1)!]));
        }
      },
    });
    const { hidden } = await embed.run({ ids: idsTensor(text, model.config.vocabulary) });
    const outputs = await block.run({ x: hidden });
    await runner.release();
    return names.map((name) => {
      const values = outputs[name].data as Float32Array;
      const width = outputs[name].dims[1];
      expect([columns, model.config.layers[0].intermediate]).toContain(width);
      const gram = new Float64Array(width * width);
      const weights = importance?.get(`model.layers.0.${name}`)?.weights;
      for (let token = 0; token < values.length; token += width) {
        const weight = weights?.[token / width] ?? 1;
        for (let i = 0; i < width; i++) {
          for (let j = 0; j < width; j++)
            gram[i * width + j] += weight * values[token + i] * values[token + j];
        }
      }
      return gram;
    });
  }

  it('hands every layer the Gram matrix of its input, as float64 gives it', async () => {
    const { method, seen } = recording('gram');
    await walk(model, sequences, { assign: blocks(method) });
    const [attention, mixed, feedForward, down] = await gramsInDouble(model.config.hidden);
    const expected = [attention, attention, attention, mixed, feedForward, feedForward, down];
    expected.forEach((gram, index) => {
      const { gram: found, tokens } = seen.get(index)!;
      expect(tokens).toBe(96 * 64);
      const largest = gram.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      const difference = gram.reduce((most, value, at) => Math.max(most, Math.abs(value - found![at])), 0);
      expect(difference / largest).toBeLessThan(2e-6);
    });
    expect(seen.size).toBe(7 * model.config.layers.length);
  });

  it('compresses layers in turn, each fed by those before it as they have become, and so the next block', async () => {
    const { method, seen } = recording('gram', 0.5);
    const few = sequences.slice(0, 48);
    await walk(model, few, { assign: blocks({ ...method, sequential: () => true }) });
    const last = 'model.layers.1.mlp.down_proj';
    const matrices = new Map(model.matrices);
    for (const { name, place, layer } of targetsOf(model)) {
      if (place !== 'block' || layer! > 1 || name === last) continue;
      const matrix = model.matrices.get(name)!;
      const values = matrix.dense().map((value) => 0.5 * value);
      matrices.set(name, denseValues(values, ...matrix.shape));
    }
    // The first block's last matrix is as it has become, too.
    const runner = openRunner({ ...model, matrices }, { longest: 64 });
    const embed = await runner.embed();
    const { hidden } = await embed.run({ ids: idsTensor(few, model.config.vocabulary) });
    const first = await runner.block(0);
    const second = await runner.block(1, {
      extend: ({ graph, scope }) => {
        const { input } = scope.linears.get(last)!;
        graph.output('seen', reshape(input, [-1, input.shape.at(-1)!]));
      },
    });
    const outputs = await second.run({ x: (await first.run({ x: hidden })).hidden });
    await runner.release();
    const values = outputs.seen.data as Float32Array;
    const width = outputs.seen.dims[1];
    const { gram } = seen.get(13)!;
    for (let column = 0; column < width; column++) {
      let square = 0;
      for (let at = column; at < values.length; at += width) square += values[at] ** 2;
      expect(gram![column * width + column] / square).toBeCloseTo(1, 4);
    }
  });

  it('weighs tokens by their importance where a method asks for it', async () => {
    const { method, seen } = recording('gram');
    const few = sequences.slice(0, 8);
    const weighing: LinearMethod<unknown> = { ...method, fisher: () => 1 };
    await walk(model, few, { assign: blocks(weighing), seed: 5 });
    const names = targetsOf(model).flatMap(({ name, layer }) => (layer === 0 ? [name] : []));
    const asked = { names: new Set(names), metrics: false };
    const { importance } = await predictionGradients(model, few, asked, { seed: 5 });
    const grams = await gramsInDouble(model.config.hidden, few, importance);
    [0, 3, 4, 6].forEach((index, at) => {
      const { gram } = seen.get(index)!;
      const largest = grams[at].reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      grams[at].forEach((value, place) =>
        expect(Math.abs(gram![place] - value) / largest).toBeLessThan(2e-6),
      );
    });
    // Layers of one input weigh its tokens differently.
    expect(seen.get(1)!.gram).not.toEqual(seen.get(0)!.gram);
  });

  it('compares with the original on a share of the text where that is enough', async () => {
    const compare = async (compared: number, texts: readonly Int32Array[]) => {
      const seen: Pick<Statistic, 'tokens' | 'cross' | 'comparedGram' | 'gram'>[] = [];
      const halving: LinearMethod<unknown> = {
        ...recording('cross', 0.5).method,
        sequential: () => true,
        compared: () => compared,
        async compress({ rows, columns, values }, { tokens, gram, cross, comparedGram }) {
          seen.push({
            tokens,
            gram: gram!.slice(),
            cross: cross!.slice(),
            comparedGram: comparedGram?.slice(),
          });
          return denseValues(
            values.map((value) => value / 2),
            rows,
            columns,
          );
        },
      };
      await walk(model, texts, { assign: blocks(halving) });
      return seen;
    };
    const long = Array.from({ length: 16 }, (_, text) =>
      Int32Array.from({ length: 256 }, (_, i) => (text * 31 + i * 7) % model.config.vocabulary),
    );
    const [part, whole, half] = [
      await compare(1, long.slice(0, 8)),
      await compare(1, long),
      await compare(0.5, long),
    ];
    half.forEach(({ tokens, gram, cross, comparedGram }, index) => {
      expect(tokens).toBe(16 * 256);
      expect(gram).toEqual(whole[index].gram);
      expect(comparedGram).toEqual(part[index].gram);
      expect(cross).toEqual(part[index].cross);
    });
    expect(half.at(-1)!.cross!.some((value) => value !== 0)).toBe(true);
    expect(whole[0].comparedGram).toBeUndefined();
  });

  it('hands over column norms, which are the diagonal of the Gram matrix', async () => {
    const grams = recording('gram');
    const norms = recording('norm');
    await walk(model, sequences, { assign: blocks(grams.method) });
    await walk(model, sequences, { assign: blocks(norms.method) });
    for (const [index, { gram, columns }] of grams.seen) {
      const { squares, gram: none } = norms.seen.get(index)!;
      expect(none).toBeUndefined();
      const ratios = Array.from(squares!, (value, column) => value / gram![column * columns + column]);
      for (const ratio of ratios) expect(ratio).toBeCloseTo(1, 4);
    }
  });

  it('gives the same statistics whatever the order of the sequences', async () => {
    const [one, other] = [recording('gram'), recording('gram')];
    await walk(model, sequences, { assign: blocks(one.method) });
    await walk(model, random(1).shuffle([...sequences]), { assign: blocks(other.method) });
    for (const [index, { gram }] of one.seen) {
      const largest = gram!.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      const difference = gram!.map((value, at) => Math.abs(value - other.seen.get(index)!.gram![at]));
      expect(Math.max(...difference) / largest).toBeLessThan(1e-5);
    }
  });

  it('feeds later blocks through compressed earlier ones', async () => {
    const whole = recording('norm');
    const halved = recording('norm', 0.5);
    await walk(model, sequences, { assign: blocks(whole.method) });
    await walk(model, sequences, { assign: blocks(halved.method) });
    expect(halved.seen.get(0)!.squares).toEqual(whole.seen.get(0)!.squares);
    expect(halved.seen.get(7)!.squares).not.toEqual(whole.seen.get(7)!.squares);
  });

  it('reports the relative error of outputs, which a factor makes exactly, and of weights without data', async () => {
    const { layers } = await walk(model, sequences, { assign: blocks(recording('gram', 0.9).method) });
    for (const { error, errorOf } of layers) {
      expect(error).toBeCloseTo(0.01, 5);
      expect(errorOf).toBe('outputs');
    }
    const blind = await walk(model, [], { assign: blocks(recording('none', 0.9).method) });
    expect(blind.layers.map(({ name }) => name)).toEqual(layers.map(({ name }) => name));
    for (const { error, errorOf } of blind.layers) {
      expect(error).toBeCloseTo(0.01, 5);
      expect(errorOf).toBe('weights');
    }
  });

  it('knows where every matrix stands, and compresses only what is assigned', async () => {
    const places = targetsOf(model).map(({ place, layer }) => `${place} ${layer ?? ''}`.trim());
    expect(places.slice(0, 8)).toEqual(['embedding', ...Array(7).fill('block 0')]);
    expect(places).toHaveLength(1 + 7 * model.config.layers.length);
    const only = 'model.layers.1.mlp.up_proj';
    const { method } = recording('none', 2);
    const walked = await walk(model, [], {
      assign: ({ name }) => (name === only ? { method, options: {} } : undefined),
    });
    expect(walked.layers.map(({ name }) => name)).toEqual([only]);
    for (const [name, encoding] of walked.model.matrices) {
      expect(encoding === model.matrices.get(name)).toBe(name !== only);
    }
  });

  it('refuses a weight or an activation that is not finite, by name', async () => {
    const name = 'model.layers.0.mlp.gate_proj';
    const broken = (value: number): Model => {
      const { shape } = model.matrices.get(name)!;
      const values = model.matrices.get(name)!.dense();
      values[shape[1] + 2] = value;
      return { ...model, matrices: new Map(model.matrices).set(name, denseValues(values, ...shape)) };
    };
    const { method } = recording('gram');
    const assign = blocks(method);
    const plainly = { method: rtn, options: rtn.options.parse({}) };
    await expect(walk(broken(Number.NaN), [], { assign: () => plainly })).rejects.toThrow(
      /gate_proj: weights are not all finite\n(.*\n)*.*NaN in row 1, column 2/,
    );
    await expect(walk(broken(Number.POSITIVE_INFINITY), sequences, { assign })).rejects.toThrow(
      /input of model.layers.0.mlp.down_proj, column \d+: .*not finite/,
    );
  });

  it('refuses methods that need data where there is none', async () => {
    await expect(walk(model, [], { assign: blocks(recording('norm').method) })).rejects.toThrow(
      'needs calibration text',
    );
  });

  it('fits a tied embedding to what the head is fed, and a table that is only looked up to unit vectors', async () => {
    const embedding = (method: LinearMethod<unknown>) => (target: { place: string }) =>
      target.place === 'embedding' ? { method, options: {} } : undefined;
    const tied = recording('gram', 0.9);
    const { layers } = await walk(model, sequences, { assign: embedding(tied.method) });
    expect(layers).toMatchObject([{ name: 'model.embed_tokens', errorOf: 'outputs' }]);
    expect(layers[0].error).toBeCloseTo(0.01, 5);
    // The final norm's outputs have a mean square near its weights'.
    const norm = toFloat32(model.vectors.get('model.norm.weight')!);
    const { squares, tokens } = tied.seen.get(0)!;
    const mean = (values: Float32Array) => values.reduce((sum, value) => sum + value, 0) / values.length;
    expect(mean(squares!) / tokens / mean(norm.map((value) => value ** 2))).toBeCloseTo(1, 0);

    const untied = recording('gram');
    const json = { ...model.config.json, tie_word_embeddings: false };
    const matrices = new Map(model.matrices).set('lm_head', { ...model.matrices.get('model.embed_tokens')! });
    const parted = { ...model, matrices, config: model.architecture.configure(json) };
    await walk(parted, [], { assign: embedding(untied.method) });
    const { gram, columns } = untied.seen.get(0)!;
    expect(gram!.every((value, at) => value === (at % (columns + 1) === 0 ? 1 : 0))).toBe(true);
  });

  it('collects for an untied head what the final norm gives', async () => {
    const head = recording('gram');
    const json = { ...model.config.json, tie_word_embeddings: false };
    const matrices = new Map(model.matrices).set('lm_head', { ...model.matrices.get('model.embed_tokens')! });
    const parted = { ...model, matrices, config: model.architecture.configure(json) };
    const { layers } = await walk(parted, sequences, {
      assign: ({ place }) => (place === 'head' ? { method: head.method, options: {} } : undefined),
    });
    expect(layers).toMatchObject([{ name: 'lm_head', errorOf: 'outputs' }]);
    expect(head.seen.get(0)!.tokens).toBe(96 * 64);
  });

  it('stops when its signal is aborted, between batches', async () => {
    const controller = new AbortController();
    const { method } = recording('gram');
    const walking = walk(model, sequences, {
      assign: blocks(method),
      signal: controller.signal,
      progress: ({ done }) => done === 9 && controller.abort(),
    });
    await expect(walking).rejects.toThrow(/abort/);
  });
});

it('tells a table of positions from one of tokens of the same size', () => {
  const settings = { vocab_size: 16, n_positions: 16, n_embd: 8, n_head: 2, n_layer: 1, n_inner: 8 };
  const config = gpt2.configure(settings);
  const zeros = (rows: number, columns: number) =>
    denseValues(new Float32Array(rows * columns), rows, columns);
  const layer = 'transformer.h.0';
  const shapes: Record<string, [number, number]> = {
    'transformer.wte': [16, 8],
    'transformer.wpe': [16, 8],
    [`${layer}.attn.c_attn`]: [24, 8],
    [`${layer}.attn.c_proj`]: [8, 8],
    [`${layer}.mlp.c_fc`]: [8, 8],
    [`${layer}.mlp.c_proj`]: [8, 8],
  };
  const matrices = new Map(Object.entries(shapes).map(([name, shape]) => [name, zeros(...shape)]));
  const sizes = { 'attn.c_attn.bias': 24, 'attn.c_proj.bias': 8, 'mlp.c_fc.bias': 8, 'mlp.c_proj.bias': 8 };
  const norms = [`${layer}.ln_1`, `${layer}.ln_2`, 'transformer.ln_f'].flatMap((name) =>
    ['weight', 'bias'].map((part) => [`${name}.${part}`, 8] as const),
  );
  const biases = Object.entries(sizes).map(([name, size]) => [`${layer}.${name}`, size] as const);
  const vectors = new Map(
    [...norms, ...biases].map(([name, size]) => [name, stored('float32', [size], new Float32Array(size))]),
  );
  const model: Model = { architecture: gpt2, config, matrices, vectors, files: new Map(), source: 'tiny' };
  expect(targetsOf(model).map(({ name, place }) => [name, place])).toEqual([
    ['transformer.wte', 'embedding'],
    ['transformer.wpe', 'positions'],
    ...Object.keys(shapes)
      .slice(2)
      .map((name) => [name, 'block']),
  ]);
});
