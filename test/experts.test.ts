/** Mixtures of experts: what config.json says of them, what they compute, and what compression makes of them. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { collect, fedBy, hiddenOf } from '../src/calibrate/streams.ts';
import { selector } from '../src/calibrate/select.ts';
import { targetsOf } from '../src/calibrate/targets.ts';
import { compress } from '../src/compress.ts';
import { isEncoded } from '../src/run/encoded.ts';
import { denseValues } from '../src/encodings/dense.ts';
import type { Model } from '../src/models/model.ts';
import { families } from '../src/methods/index.ts';
import { keepExperts, keepLayers } from '../src/models/layers.ts';
import { findArchitecture } from '../src/models/index.ts';
import { logits, openRunner } from '../src/models/runner.ts';
import { multiplyAdds, parameters } from '../src/models/size.ts';
import { openForCompression } from '../src/open.ts';
import { checkRecipe } from '../src/recipe/recipe.ts';
import { applyRecipe } from '../src/run/apply.ts';
import { readTexts } from '../src/run/texts.ts';
import { fewSteps, stepsOf } from './conformance/steps.ts';
import { writeTinyCheckpoint } from './models/checkpoint.ts';

const folder = mkdtempSync(join(tmpdir(), 'lapidary-experts-'));
afterAll(() => rmSync(folder, { recursive: true }));
const source = join(folder, 'tiny');
const [count, perToken, width, hidden] = [4, 2, 64, 64];
await writeTinyCheckpoint(source, {
  model_type: 'qwen3_moe',
  num_hidden_layers: 2,
  num_experts: count,
  num_experts_per_tok: perToken,
  intermediate_size: width,
  norm_topk_prob: true,
});
const original = await openForCompression(source, {});
const { model } = original;
const ids = [Int32Array.from({ length: 24 }, (_, i) => 3 + ((7 * i) % 200))];

const planOf = (json: Readonly<Record<string, unknown>>) =>
  findArchitecture({ model_type: 'qwen3_moe' }).configure({ ...model.config.json, ...json }).layers;

describe('config.json', () => {
  it('says which layers are mixtures, of how many experts, how wide', () => {
    const mixture = { count, perToken, normalized: true };
    expect(planOf({}).map(({ experts }) => experts)).toEqual([mixture, mixture]);
    const second = planOf({ decoder_sparse_step: 2, intermediate_size: 96 });
    expect(second.map(({ experts, intermediate }) => [experts, intermediate])).toEqual([
      [undefined, 96],
      [mixture, width],
    ]);
    expect(planOf({ mlp_only_layers: [1] })[1]!.experts).toBeUndefined();
    expect(planOf({ num_experts: [4, 0], num_local_experts: [4, 0] })[1]!.experts).toBeUndefined();
  });

  it('is written in the words of transformers 4 and of 5', () => {
    expect(model.config.json).toMatchObject({ num_experts: count, num_local_experts: count });
    const { num_experts: _, ...newer } = model.config.json;
    expect(findArchitecture(newer).configure(newer).layers).toEqual(model.config.layers);
    expect(() => planOf({ num_experts: 8 })).toThrow(/num_experts[\s\S]*num_local_experts/);
  });

  it('is refused where it sends a token to more experts than there are, or names no layers', () => {
    expect(() => planOf({ num_experts_per_tok: 5 })).toThrow(/num_experts_per_tok[\s\S]*1 to 4[\s\S]*5/);
    expect(() => planOf({ mlp_only_layers: 'first' })).toThrow(/mlp_only_layers/);
  });

  it('is true of what becomes of the model', () => {
    const fewer = keepExperts(model, 1, [0, 3, 2]);
    const again = planOf(fewer.config.json);
    expect(again).toEqual(fewer.config.layers);
    expect(again.map(({ experts }) => experts?.count)).toEqual([4, 3]);
    expect(planOf(keepLayers(fewer, [1]).config.json)).toEqual([fewer.config.layers[1]]);
  });
});

describe('a mixture', () => {
  it('counts all experts as parameters, and those that a token is sent to as work', () => {
    const [attention, router, experts] = [3 * hidden * hidden, count * hidden, count * 3 * width * hidden];
    const table = 2048 * hidden;
    const norms = hidden + 2 * (2 * hidden + 2 * (hidden / 2));
    expect(parameters(model)).toBe(table + norms + 2 * (attention + router + experts));
    expect(multiplyAdds(model)).toBe(table + 2 * (attention + router + (perToken / count) * experts));
  });

  it('feeds each expert the tokens that are sent to it, and nothing else', async () => {
    const runner = openRunner(model, { threads: 1, longest: 24 });
    const fed = fedBy(await hiddenOf(runner, ids, model), { open: (part) => runner.block(0, part) });
    const names = [...Array(count).keys()].map((expert) => `model.layers.0.mlp.experts.${expert}.up_proj`);
    const router = 'model.layers.0.mlp.gate';
    const needs = new Map([router, ...names].map((name) => [name, 'gram' as const]));
    const statistics = await collect(needs, fed, undefined, {});
    await runner.release();
    // Every token is sent to two.
    const traces = (name: string) =>
      Array.from({ length: hidden }, (_, i) => statistics.get(name)!.gram![i * hidden + i]!);
    const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);
    const all = sum(traces(router));
    const each = names.map((name) => sum(traces(name)));
    expect(sum(each)).toBeCloseTo(perToken * all, 1);
    expect(each.every((energy) => energy < all)).toBe(true);
  });

  it('computes the same with its experts in another order', async () => {
    const before = (await logits(model, ids, { threads: 1 })).data as Float32Array;
    const all = keepExperts(model, 0, [2, 0, 3, 1]);
    const after = (await logits(all, ids, { threads: 1 })).data as Float32Array;
    expect(Math.max(...after.map((value, i) => Math.abs(value - before[i]!)))).toBeLessThan(1e-4);
  });

  it('computes the same without an expert that no token is sent to', async () => {
    const before = (await logits(starved, ids, { threads: 1 })).data as Float32Array;
    const after = (await logits(keepExperts(starved, 1, [0, 1, 2]), ids, { threads: 1 }))
      .data as Float32Array;
    expect(Math.max(...after.map((value, i) => Math.abs(value - before[i]!)))).toBeLessThan(1e-4);
    const other = (await logits(keepExperts(starved, 1, [0, 1, 3]), ids, { threads: 1 }))
      .data as Float32Array;
    expect(Math.max(...other.map((value, i) => Math.abs(value - before[i]!)))).toBeGreaterThan(1e-3);
  });
});

describe('targets', () => {
  const named = (expression: string) => targetsOf(model).filter(selector(expression, model));

  it('mean experts, and what chooses them where it is named', () => {
    expect(named('blocks').some(({ name }) => name.endsWith('mlp.gate'))).toBe(false);
    expect(named('feed-forward')).toHaveLength(2 * count * 3);
    expect(named('attention')).toHaveLength(2 * 4);
    expect(named('mlp.gate').map(({ router }) => router)).toEqual([true, true]);
  });
});

const paragraphs = (many: number) => {
  const path = join(folder, `text-${many}.txt`);
  writeFileSync(
    path,
    Array.from({ length: many }, (_, i) => `Once upon a time there were ${i} stones.`).join('\n\n'),
  );
  return { data: path, separator: '\n\n' };
};
const texts = {
  calibration: { ...paragraphs(12), sequences: 3, length: 32 },
  evaluation: { ...paragraphs(2), sequences: 2, length: 32 },
};

/** Scores of the first two experts are opposite, those of the others zero: of these the last is never among the two largest. */
const routerOfFew = Float32Array.from({ length: count * hidden }, (_, at) =>
  at < 2 * hidden ? (at < hidden ? 1 : -1) * Math.sin(1 + (at % hidden)) : 0,
);
const starved: Model = {
  ...model,
  matrices: new Map(model.matrices).set('model.layers.1.mlp.gate', denseValues(routerOfFew, count, hidden)),
};

describe('compression', () => {
  const methods = families.flatMap((family) =>
    family.methods.map((method) => [method.name, { family, method }] as const),
  );

  it.each(methods)('by %s, of an expert without a token, too', async (_, { family, method }) => {
    const steps = stepsOf(family, method, fewSteps(method));
    const recipe = checkRecipe({ model: source, steps, ...texts, export: { format: 'onnx' } }, 'experts');
    const given = await readTexts(recipe, original, () => {});
    const { model: after } = await applyRecipe(starved, recipe, given, { threads: 1 });
    for (const { dense } of new Set(after.matrices.values()))
      expect(dense().every(Number.isFinite)).toBe(true);
    expect(isEncoded(after.matrices.get('model.layers.0.mlp.gate')!)).toBe(false);
  });

  it('is written for engines of ONNX and llama.cpp, and refused with the reason where nobody has tried it', async () => {
    const out = join(folder, 'out');
    const report = await compress({ model: source, out, ...texts, threads: 1, speed: false, answers: false });
    for (const { worst, tolerance } of report.checks) expect(worst).toBeLessThanOrEqual(tolerance);
    await expect(
      compress({ model: source, out: join(folder, 'vllm'), for: 'vllm', ...texts, threads: 1 }),
    ).rejects.toThrow(/mixtures of experts[\s\S]*--format onnx or gguf/);
    const gguf = join(folder, 'gguf');
    const written = await compress({
      recipe: checkRecipe(
        { model: source, steps: [{ method: 'ggml', type: 'Q8_0' }], ...texts, export: { format: 'gguf' } },
        'experts',
      ),
      out: gguf,
      threads: 1,
      speed: false,
      answers: false,
    });
    expect(written.checks.every(({ worst, tolerance }) => worst <= tolerance)).toBe(true);
    const again = (await openForCompression(gguf, {})).model;
    expect(again.config.layers.map(({ experts }) => experts)).toEqual(
      model.config.layers.map(({ experts }) => experts),
    );
  });
});
