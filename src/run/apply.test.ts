import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { removeLayers } from '../../test/conformance/remove-layers.ts';
import { tinyLlama } from '../../test/models/tiny.ts';
import { toFloat32 } from '../base/half.ts';
import { random } from '../base/random.ts';
import { stored } from '../base/tensor.ts';
import type { ModelRewrite } from '../contract/method.ts';
import { denseValues } from '../encodings/dense.ts';
import type { Encoding } from '../encodings/encoding.ts';
import type { Journal } from '../io/journal.ts';
import { openJournal } from '../io/journal.ts';
import type { Model } from '../models/model.ts';
import { logits } from '../models/runner.ts';
import { parameters } from '../models/size.ts';
import { checkRecipe } from '../recipe/recipe.ts';
import type { ApplyOptions } from './apply.ts';
import { applyRecipe } from './apply.ts';

const model = tinyLlama({ tied: true });
const source = random(3);
const calibration = Array.from({ length: 4 }, () =>
  Int32Array.from({ length: 12 }, () => source.integer(10)),
);
const gptq = { method: 'gptq', bits: 4, group: -1 };
const shorter = { method: removeLayers };

const apply = (steps: readonly object[], options: Partial<ApplyOptions> = {}) =>
  applyRecipe(model, checkRecipe({ steps }), { calibration }, { threads: 1, ...options });

const codesOf = ({ matrices }: Model, name: string) => [...matrices.get(name)!.tensors.get('codes')!.bytes()];

const bytesOf = ({ matrices }: Model) =>
  [...matrices].map(([name, { tensors }]) => [
    name,
    ...[...tensors.values()].map((each) => [...each.bytes()]),
  ]);

const folder = mkdtempSync(join(tmpdir(), 'lapidary-apply-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe('a recipe whose steps change the structure', () => {
  it('gives each step the model as those before have left it', async () => {
    const [cut] = [await apply([shorter])];
    const both = await apply([shorter, gptq]);
    const alone = await applyRecipe(
      cut.model,
      checkRecipe({ steps: [gptq] }),
      { calibration },
      { threads: 1 },
    );
    expect(both.model.config.layers.length).toBe(1);
    expect(bytesOf(both.model)).toEqual(bytesOf(alone.model));
    expect(both.layers.map(({ name }) => name)).toEqual(alone.layers.map(({ name }) => name));
  });

  it('has exact counts, settings that say so, and logits of the layers that are left', async () => {
    const { model: cut } = await apply([shorter]);
    const layer = 8 * 8 + 2 * 4 * 8 + 8 * 8 + 3 * 12 * 8 + 2 * 8;
    expect(parameters(cut)).toBe(parameters(model) - layer);
    expect(cut.config.json.num_hidden_layers).toBe(1);
    expect((await logits(cut, calibration)).data.every(Number.isFinite)).toBe(true);
  });

  it('keeps what is compressed when layers go, and its rows under their new names', async () => {
    const whole = await apply([gptq]);
    const { model: cut, layers } = await apply([gptq, shorter]);
    for (const part of ['self_attn.q_proj', 'mlp.down_proj']) {
      const name = `model.layers.0.${part}`;
      expect(codesOf(cut, name)).toEqual(codesOf(whole.model, `model.layers.1.${part}`));
      const row = whole.layers.find((row) => row.name === `model.layers.1.${part}`)!;
      expect(layers.find((row) => row.name === name)).toEqual({ ...row, name, seconds: expect.any(Number) });
    }
    expect(layers.length).toBe(whole.layers.length / 2);
  });

  it('collects statistics again where a second walk compresses the other matrices', async () => {
    const steps = [{ ...gptq, targets: ['attention'] }, shorter, { ...gptq, targets: ['feed-forward'] }];
    const { model: made, layers } = await apply(steps);
    expect([...made.matrices.values()].filter(({ bits }) => bits === 4).length).toBe(7);
    expect(layers.map(({ method }) => method)).toEqual(new Array(7).fill('gptq'));
    // Where layers went only afterwards, the feed-forward was fitted to what they gave it.
    const { model: other } = await apply([steps[0]!, steps[2]!, shorter]);
    const name = 'model.layers.0.mlp.down_proj';
    expect(codesOf(made, name)).not.toEqual(codesOf(other, name));
  });

  it('continues from a journal, walk by walk, to the same bytes', async () => {
    const steps = [{ ...gptq, targets: ['attention'] }, shorter, { ...gptq, targets: ['feed-forward'] }];
    const journal = openJournal(join(folder, 'out'), { steps: 'these' }, { warn: () => {} });
    const first = await apply(steps, { journal });
    const reads: string[] = [];
    const watched: Journal = {
      ...journal,
      size: journal.size,
      read(unit) {
        const entry = journal.read(unit);
        if (entry) reads.push(unit);
        return entry;
      },
    };
    const shares: number[] = [];
    const again = await apply(steps, { journal: watched, resumed: (share) => void shares.push(share) });
    expect(bytesOf(again.model)).toEqual(bytesOf(first.model));
    expect(reads).toEqual(['walk-0-block-0', 'walk-0-block-1', 'rewrite-1', 'walk-1-block-0']);
    expect(shares).toEqual([1]);
  });

  it('makes what a rewrite remembers once, where all of its result is not kept', async () => {
    let [long, made] = [0, 0];
    const doubling: ModelRewrite = {
      ...shorter.method,
      options: z.strictObject({}),
      name: 'doubling',
      changes: 'weights',
      repeats: true,
      async rewrite(before, _, { remember }) {
        made++;
        const found = await remember('factor', async () => {
          long++;
          return new Map([['factor', stored('float32', [1], Float32Array.of(2))]]);
        });
        const factor = toFloat32(found.get('factor')!)[0]!;
        const double = ({ dense, shape }: Encoding) =>
          denseValues(
            dense().map((value) => factor * value),
            ...shape,
          );
        return {
          ...before,
          matrices: new Map([...before.matrices].map(([name, each]) => [name, double(each)])),
        };
      },
    };
    const journal = openJournal(join(folder, 'remembering'), {}, { warn: () => {} });
    const first = await apply([{ method: doubling }, gptq], { journal });
    const again = await apply([{ method: doubling }, gptq], { journal });
    expect([made, long]).toEqual([2, 1]);
    expect(bytesOf(again.model)).toEqual(bytesOf(first.model));
  });

  it('asks whether the new structure can be written before it goes on', async () => {
    const refusal = new Error('not in this format');
    const check = () => {
      throw refusal;
    };
    await expect(apply([shorter, gptq], { check })).rejects.toBe(refusal);
    await expect(apply([gptq], { check })).resolves.toBeDefined();
  });
});
