/** Every architecture through the methods of each shape: one that rounds, one that compensates, one that scales, one that rotates. */

import { expect, it } from 'vitest';
import { LapidaryError } from '../src/base/errors.ts';
import type { Model } from '../src/models/model.ts';
import { logits } from '../src/models/runner.ts';
import { targetsOf } from '../src/calibrate/targets.ts';
import { checkRecipe } from '../src/recipe/recipe.ts';
import { applyRecipe } from '../src/run/apply.ts';
import { contextOf } from '../src/run/context.ts';
import { quarot } from '../src/methods/quantize/quarot.ts';
import { openFile } from '../src/evaluate/file.ts';
import { exportGraph } from '../src/export/graph.ts';
import { checkHeld } from '../src/formats/holds.ts';
import { architectures, expectedOf, maxDifference, openGolden } from './engines/models.ts';

const finite = (values: Float32Array) => values.every(Number.isFinite);
const scores = async (model: Model, ids: readonly (readonly number[])[]) =>
  (await logits(model, ids, { threads: 1 })).data as Float32Array;

it.each(
  architectures.flatMap((name) =>
    [['rtn'], ['gptq'], ['awq', 'rtn']].map((methods) => [name, methods] as const),
  ),
)('%s by %j: every matrix of its blocks has fewer bits, and logits are finite', async (name, methods) => {
  const source = `test/models/${name}`;
  const model = await openGolden(name);
  const steps = methods.map((method) => ({ method }));
  const recipe = checkRecipe({ model: source, steps, export: { format: 'onnx' } }, 'architectures');
  const { ids } = expectedOf(name);
  const rows = ids.map((row) => Int32Array.from(row));
  const given = { calibration: rows, verification: rows[0]! };
  const { model: after } = await applyRecipe(model, recipe, given, { threads: 1 });
  for (const target of targetsOf(after))
    if (target.place === 'block' && !target.router)
      expect(after.matrices.get(target.name)!.bits, target.name).toBeLessThan(16);
  expect(finite(await scores(after, ids))).toBe(true);
});

/** What stands between a matrix and the stream, where a rotation cannot pass. */
const unturned = (model: Model) => {
  const { architecture, config } = model;
  const { tableNorm } = architecture.around(config);
  const { writers } = architecture.structure(config, 0);
  return tableNorm ?? writers.find(({ norm }) => norm !== undefined)?.norm;
};

it.each(architectures)('%s rotated: the same logits, or a refusal that names the norm', async (name) => {
  const model = await openGolden(name);
  const { ids } = expectedOf(name);
  const turned = async () => quarot.rewrite(model, {}, contextOf(model, [], { seed: 3, threads: 1 }));
  const norm = unturned(model);
  if (norm !== undefined) {
    await expect(turned()).rejects.toThrow(LapidaryError);
    await expect(turned()).rejects.toThrow(norm);
    return;
  }
  expect(maxDifference(await scores(await turned(), ids), await scores(model, ids))).toBeLessThan(1e-3);
});

it.each(['phi3', 'gpt_neox', 'falcon', 'bloom'])(
  '%s, whose queries, keys and values are compressed apart, is not written for engines that read them joined',
  async (name) => {
    const model = await openGolden(name);
    for (const format of ['compressed-tensors', 'gptq', 'awq', 'mlx'] as const)
      expect(() => checkHeld(format, model, format)).toThrow(/hold joined[\s\S]*--format onnx/);
    expect(() => checkHeld('onnx', model, 'ONNX')).not.toThrow();
  },
);

it.each(['bloom', 'falcon-alibi'])('%s in float16 gives the logits of float32', async (name) => {
  const model = await openGolden(name);
  const { ids } = expectedOf(name);
  const runner = await openFile(exportGraph(model, { activations: 'float16' }), { threads: 1 });
  const { logits: found } = await runner.step(Int32Array.from(ids[0]!), 0, runner.empty(), 0);
  const expected = await scores(model, [ids[0]!]);
  expect(maxDifference(found.data as Float32Array, expected)).toBeLessThan(0.05);
  await runner.close();
});
