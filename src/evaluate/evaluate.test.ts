import { existsSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { random } from '../base/random.ts';
import { readDocuments } from '../calibrate/data.ts';
import type { Documents } from '../calibrate/sequences.ts';
import { documentSequences, packSequences } from '../calibrate/sequences.ts';
import { walk } from '../calibrate/walk.ts';
import { tensor } from '../graph/session.ts';
import { openCheckpoint } from '../io/checkpoint.ts';
import type { LinearMethod } from '../contract/method.ts';
import { gptq } from '../methods/quantize/gptq.ts';
import { rtn } from '../methods/quantize/rtn.ts';
import { loadModel } from '../models/index.ts';
import type { Model } from '../models/model.ts';
import { bytes } from '../models/size.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { loadTokenizer } from '../tokenizer/tokenizer.ts';
import { modelScorer } from './blocks.ts';
import type { MeanLoss } from './details.ts';
import { evaluate } from './evaluate.ts';
import { openReducer } from './reduce.ts';
import { evaluateRivals } from './rivals.ts';
import type { Scorer } from './scorer.ts';
import { cutsOf, rowsOf } from './scorer.ts';

const folder = '../shared/models/stories260K-hf';
const stories = '../shared/data/tinystories/tiny.utf8';
const here = existsSync(folder) && existsSync(stories);

describe.skipIf(!here)('evaluating stories260K on 40 stories (needs ../shared)', () => {
  let model: Model;
  let data: Documents;
  let documents: readonly string[];
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    const checkpoint = await openCheckpoint(folder);
    model = loadModel(checkpoint);
    documents = (await readDocuments(stories, { separator: '<|endoftext|>' })) as string[];
    tokenizer = loadTokenizer(checkpoint.files);
    data = documentSequences(documents, tokenizer, { length: model.config.context, documents: 40 });
  });
  const few = () => ({ sequences: data.sequences.slice(0, 6), characters: data.characters.slice(0, 6) });

  it('gives the reference numbers of its authors’ weights', async () => {
    const result = await evaluate({ scorer: modelScorer(model), ...data });
    expect(Object.keys(result)).toEqual(['tokens', 'nats', 'perplexity', 'bitsPerCharacter']);
    expect(result.tokens).toBe(12571);
    expect(result.nats).toBeCloseTo(1.2451, 4);
    expect(result.perplexity.value).toBeCloseTo(3.473, 3);
    expect(result.bitsPerCharacter.value).toBeCloseTo(0.8408, 4);
    for (const { low, value, high } of [result.perplexity, result.bitsPerCharacter]) {
      expect(low).toBeLessThan(value);
      expect(high).toBeGreaterThan(value);
    }
  });

  it('finds no divergence of a model from itself', async () => {
    const { kl, agreement, perplexityRatio, details } = await evaluate({
      scorer: modelScorer(model),
      against: modelScorer(model),
      details: true,
      ...few(),
    });
    expect(kl).toEqual({ mean: 0, median: 0, p99: 0, low: 0, high: 0 });
    expect(agreement).toEqual({ value: 1, low: 1, high: 1 });
    expect(perplexityRatio).toEqual({ value: 1, low: 1, high: 1 });
    expect(details!.changed).toEqual([]);
    expect(details!.divergences).toHaveLength(1);
  });

  it('gives the same whatever the order of the sequences', async () => {
    const order = random(2).shuffle([...few().sequences.keys()]);
    const result = await evaluate({ scorer: modelScorer(model), ...few() });
    const shuffled = await evaluate({
      scorer: modelScorer(model),
      sequences: order.map((index) => data.sequences[index]),
      characters: order.map((index) => data.characters[index]),
    });
    expect(shuffled.tokens).toBe(result.tokens);
    expect(shuffled.nats).toBeCloseTo(result.nats, 6);
  });

  it('predicts with the original in the same pass, and compares the two more sharply than their own intervals', async () => {
    const options = rtn.options.parse({ bits: 4, group: 32 });
    const { model: compressed } = await walk(model, [], { assign: () => ({ method: rtn, options }) });
    const scorer = modelScorer(compressed);
    const both = await evaluate({ scorer, against: modelScorer(model), details: true, ...few() });
    const { tokens, nats, perplexity, bitsPerCharacter, original, perplexityRatio, details } = both;
    expect(original).toEqual(await evaluate({ scorer: modelScorer(model), ...few() }));
    expect({ tokens, nats, perplexity, bitsPerCharacter }).toEqual(await evaluate({ scorer, ...few() }));
    const { value, low, high } = perplexityRatio!;
    expect(value).toBeCloseTo(perplexity.value / original!.perplexity.value, 10);
    expect(low).toBeLessThan(value);
    expect(high).toBeGreaterThan(value);
    expect(high! - low!).toBeLessThan(
      0.5 * ((perplexity.high! - perplexity.low!) / original!.perplexity.value),
    );
    const total = (pick: (means: MeanLoss) => number) =>
      details!.sequences.reduce((sum, means) => sum + means.tokens * pick(means), 0) / tokens;
    expect(total((means) => means.nats)).toBeCloseTo(nats, 10);
    expect(total((means) => means.originalNats)).toBeCloseTo(original!.nats, 10);
    expect(total((means) => means.kl)).toBeCloseTo(both.kl!.mean, 10);
    expect(total((means) => means.same)).toBeCloseTo(both.agreement!.value, 10);
  });

  it('sees more bits lose less', async () => {
    const losses: number[] = [];
    for (const bits of [3, 4, 8] as const) {
      const options = rtn.options.parse({ bits, group: 32 });
      const assign = ({ place }: { place: string }) =>
        place === 'block' ? { method: rtn, options } : undefined;
      const { model: compressed } = await walk(model, [], { assign });
      const { kl, agreement } = await evaluate({
        scorer: modelScorer(compressed),
        against: modelScorer(model),
        ...few(),
      });
      expect(kl!.low).toBeLessThan(kl!.mean);
      expect(kl!.p99).toBeGreaterThan(kl!.median);
      expect(agreement!.value).toBeLessThan(1);
      losses.push(kl!.mean);
    }
    expect(losses[0]).toBeGreaterThan(losses[1]);
    expect(losses[1]).toBeGreaterThan(losses[2]);
    expect(losses[2]).toBeGreaterThan(0);
  });

  it('sees GPTQ lose at least 30% less than round-to-nearest at the same bytes, on stories it was not fitted to', async () => {
    const options = { length: 256, count: 64, seed: 0 };
    const { sequences } = packSequences(documents.slice(40), tokenizer, options);
    const outcome = async (method: LinearMethod<unknown>) => {
      const assign = () => ({ method, options: method.options.parse({ bits: 4, group: 32 }) });
      const { model: compressed } = await walk(model, sequences, { assign });
      const against = modelScorer(model);
      const sample = { sequences: data.sequences.slice(0, 20), characters: data.characters.slice(0, 20) };
      const { kl } = await evaluate({ scorer: modelScorer(compressed), against, ...sample });
      return { kl: kl!.mean, bytes: bytes(compressed) };
    };
    const [nearest, fitted] = [await outcome(rtn), await outcome(gptq)];
    expect(fitted.bytes).toBe(nearest.bytes);
    expect(fitted.kl).toBeLessThan(0.7 * nearest.kl);
  });

  it('refuses models of different vocabularies', async () => {
    const other: Scorer = { ...modelScorer(model), vocabulary: 511 };
    await expect(evaluate({ scorer: modelScorer(model), against: other, ...few() })).rejects.toThrow(
      /different vocabularies/,
    );
  });

  it('stops when its signal is aborted', async () => {
    const signal = AbortSignal.abort();
    await expect(evaluate({ scorer: modelScorer(model), signal, ...few() })).rejects.toThrow(/abort/);
  });
});

describe('two models of two tokens, by hand', () => {
  /** Predicts one distribution everywhere. */
  const constant = (...probabilities: number[]): Scorer => ({
    vocabulary: probabilities.length,
    close: async () => {},
    async *score(sequences) {
      for (const [sequence, { length }] of sequences.entries()) {
        const logits = Array.from({ length: length - 1 }, () => probabilities.map(Math.log)).flat();
        const dims = [length - 1, probabilities.length];
        yield {
          sequence,
          start: 0,
          rows: length - 1,
          logits: tensor('float32', dims, Float32Array.from(logits)),
        };
      }
    },
  });
  const sequences = [Int32Array.of(0, 0, 1), Int32Array.of(0, 1)];
  const characters = [2, 1];

  it('differ by what the formulas say', async () => {
    const [scorer, against] = [constant(0.25, 0.75), constant(0.5, 0.5)];
    const result = await evaluate({ scorer, against, sequences, characters, details: true });
    // The text is 0, 1 and 1: probabilities of 1/4, 3/4 and 3/4, and of 1/2 each.
    expect(result.nats).toBeCloseTo((Math.log(4) + 2 * Math.log(4 / 3)) / 3, 6);
    expect(result.original!.nats).toBeCloseTo(Math.LN2, 6);
    expect(result.original!.bitsPerCharacter.value).toBeCloseTo(1, 6);
    expect(result.perplexityRatio!.value).toBeCloseTo((2 * (2 / 3) ** 2) ** (1 / 3), 6);
    // KL = 1/2 ln((1/2) / (1/4)) + 1/2 ln((1/2) / (3/4)) = 1/2 ln(4/3)
    const kl = 0.5 * Math.log(4 / 3);
    expect(result.kl!.mean).toBeCloseTo(kl, 6);
    expect(result.agreement!.value).toBe(0);
    const [first] = result.details!.changed;
    expect(first).toMatchObject({ sequence: 0, position: 1, context: [0], target: 0 });
    expect(first.kl).toBeCloseTo(kl, 6);
    expect([first.original.top, first.compressed.top]).toEqual([0, 1]);
    expect(first.original.probability).toBeCloseTo(0.5, 6);
    expect(first.original.target).toBeCloseTo(0.5, 6);
    expect(first.compressed.probability).toBeCloseTo(0.75, 6);
    expect(first.compressed.target).toBeCloseTo(0.25, 6);
  });

  it('carry no details unless asked', async () => {
    const [scorer, against] = [constant(0.25, 0.75), constant(0.5, 0.5)];
    expect(await evaluate({ scorer, against, sequences, characters })).not.toHaveProperty('details');
  });

  it.each([
    ['the last', 1],
    ['an earlier one, which is opened again', 0],
  ])('are measured one after the other until a part of the text has decided, for %s', async (_, best) => {
    const read: [string, number][] = [];
    const open: string[] = [];
    let most = 0;
    const told = (name: string, scorer: Scorer): Scorer => {
      open.push(name);
      most = Math.max(most, open.length);
      return {
        ...scorer,
        close: async () => void open.splice(open.indexOf(name), 1),
        score(texts) {
          read.push([name, texts.length]);
          return scorer.score(texts);
        },
      };
    };
    const long = Array.from({ length: 8 }, () => Int32Array.from({ length: 1025 }, (_, i) => i % 2));
    const sizes = long.map(({ length }) => length - 1);
    const [better, worse, against] = [constant(0.4, 0.6), constant(0.25, 0.75), constant(0.5, 0.5)];
    const rivals = best === 1 ? [worse, better] : [better, worse];
    const { index, kl, evaluation } = await evaluateRivals(
      rivals.map((rival, at) => async () => told(`${at}`, rival)),
      {
        against: told('original', against),
        sequences: long,
        characters: sizes,
        choose: ([first, second]) => (second! < first! ? 1 : 0),
      },
    );
    expect(index).toBe(best);
    expect(kl[1 - best]).toBeCloseTo(0.5 * Math.log(4 / 3), 6);
    expect(evaluation).toEqual(
      await evaluate({ scorer: better, against, sequences: long, characters: sizes }),
    );
    expect(read).toEqual([
      ['original', 2],
      ['0', 2],
      ['original', 2],
      ['1', 2],
      ['original', 6],
      [`${best}`, 6],
    ]);
    // The original, and one of them at a time.
    expect([most, open]).toEqual([2, ['original']]);
  });

  it('are refused where a prediction is not finite, by name', async () => {
    const [fine, broken] = [constant(0.5, 0.5), constant(0.5, Number.NaN)];
    const both = (scorer: Scorer, against: Scorer, ids = sequences) =>
      evaluate({ scorer, against, sequences: ids, characters });
    await expect(both(broken, fine)).rejects.toThrow(/the model predicts values that are not finite/);
    await expect(both(fine, broken)).rejects.toThrow(/the original predicts values that are not finite/);
    const surely = [Int32Array.of(0, 0, 0), Int32Array.of(0, 0)];
    await expect(both(constant(1, 0), fine, surely)).rejects.toThrow(/one of the two models predicts/);
  });
});

describe('chunks of logits', () => {
  it('cover all positions that predict, and stay within 32 MiB', () => {
    for (const vocabulary of [512, 50257, 151936]) {
      expect(rowsOf(vocabulary) * vocabulary * 4).toBeLessThanOrEqual(32 * 2 ** 20);
      for (const length of [1, 2, 257, 258, 1000]) {
        const cuts = cutsOf(length, rowsOf(vocabulary));
        expect(
          cuts.flatMap(({ start, rows }) => Array.from({ length: rows }, (_, row) => start + row)),
        ).toEqual(Array.from({ length: length - 1 }, (_, position) => position));
      }
    }
  });

  it('are reduced to what float64 gives', async () => {
    const [rows, vocabulary] = [5, 301];
    const draws = random(9);
    const values = () => Float32Array.from({ length: rows * vocabulary }, () => 4 * draws.normal());
    const [original, compressed] = [values(), values()];
    compressed.set(original.subarray(0, vocabulary));
    const targets = Int32Array.from({ length: rows }, () => draws.integer(vocabulary));
    const reducer = openReducer(vocabulary);
    const shape = [rows, vocabulary];
    const asTensor = (data: Float32Array) => tensor('float32', shape, data);
    const result = await reducer.compare(asTensor(original), asTensor(compressed), targets);
    const { nats, originalNats, kl, top, topNats, originalTop, originalTopNats } = result;
    const alone = await reducer.losses(asTensor(compressed), targets);
    const originalAlone = await reducer.losses(asTensor(original), targets);
    await reducer.close();
    const logs = (data: Float32Array, row: number) => {
      const logits = Array.from(data.subarray(row * vocabulary, (row + 1) * vocabulary));
      const total = Math.log(logits.reduce((sum, value) => sum + Math.exp(value), 0));
      return logits.map((value) => value - total);
    };
    for (let row = 0; row < rows; row++) {
      const [p, q] = [logs(original, row), logs(compressed, row)];
      const divergence = p.reduce((sum, value, token) => sum + Math.exp(value) * (value - q[token]), 0);
      expect(kl[row]).toBeCloseTo(divergence, 4);
      expect(nats[row]).toBeCloseTo(-q[targets[row]], 4);
      expect(alone[row]).toBe(nats[row]);
      expect(originalNats[row]).toBeCloseTo(-p[targets[row]], 4);
      expect(originalAlone[row]).toBe(originalNats[row]);
      expect(top[row]).toBe(q.indexOf(Math.max(...q)));
      expect(topNats[row]).toBeCloseTo(-Math.max(...q), 4);
      expect(originalTop[row]).toBe(p.indexOf(Math.max(...p)));
      expect(originalTopNats[row]).toBeCloseTo(-Math.max(...p), 4);
    }
    expect(kl[0]).toBe(0);
  });
});
