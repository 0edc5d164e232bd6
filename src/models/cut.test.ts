import { beforeAll, describe, expect, it } from 'vitest';
import { tinyLlama } from '../../test/models/tiny.ts';
import type { Encoding } from '../encodings/encoding.ts';
import type { Feeds, Tensor } from '../graph/session.ts';
import { w8a8 } from '../methods/quantize/w8a8.ts';
import type { Model } from './model.ts';
import { idsTensor, openRunner } from './runner.ts';

const model = tinyLlama({ tied: false });
const layer = 'model.layers.1';
const linear = (...names: string[]) => names.map((name) => `${layer}.${name}`);
const stages = [
  linear('self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj'),
  linear('self_attn.o_proj'),
  linear('mlp.gate_proj', 'mlp.up_proj'),
  linear('mlp.down_proj'),
];
const runner = openRunner(model);
let x: Tensor;
beforeAll(async () => {
  const embed = await runner.embed();
  ({ hidden: x } = await embed.run({ ids: idsTensor([[1, 2, 3, 4, 5]], 10) }));
});

/** A block of the weights that `weightsAt` gives a slice, slice after slice. */
async function sliceBySlice(
  weightsAt: (at: number) => Pick<Model, 'matrices' | 'vectors'>,
  left: readonly number[] = [],
) {
  let feeds: Feeds = { x };
  let from = -1;
  const kept: string[][] = [];
  for (let at = 0; ; at++) {
    const stage = await runner.block(1, { weights: weightsAt(at), cut: { stages, from, at } });
    const results = await stage.run(feeds);
    if (at === stages.length) return { hidden: results.hidden, kept };
    if (left.includes(at)) continue;
    from = at;
    kept.push(stage.kept.map(({ name, passed }) => passed ?? name));
    const next = stage.kept.map(({ name, passed }) => [name, passed ? feeds[passed] : results[name]]);
    feeds = Object.fromEntries(next) as Feeds;
  }
}

async function whole(weights: Pick<Model, 'matrices' | 'vectors'>): Promise<Tensor> {
  const block = await runner.block(1, { weights });
  return (await block.run({ x })).hidden;
}

describe('a block in slices', () => {
  it('computes what it computes as a whole', async () => {
    const { hidden, kept } = await sliceBySlice(() => model);
    expect(hidden.data).toEqual((await whole(model)).data);
    // What layers are fed next, and what goes past them; but norms and masks are made of these again.
    expect(kept).toEqual([['x'], ['kept.1.0', 'kept.0.0'], ['kept.2.0'], ['kept.3.0', 'kept.2.0']]);
  });

  it('computes the same where not every slice keeps what it has', async () => {
    const { hidden, kept } = await sliceBySlice(() => model, [0, 2, 3]);
    expect(hidden.data).toEqual((await whole(model)).data);
    expect(kept).toHaveLength(1);
  });

  it('computes what the whole of it does whose layers were replaced on the way, each before its product', async () => {
    const matrices = new Map<string, Encoding>(model.matrices);
    // Their products are made of other nodes.
    const options = w8a8.options.parse({});
    for (const name of stages.flat()) {
      const [rows, columns] = model.matrices.get(name)!.shape;
      const values = model.matrices.get(name)!.dense();
      matrices.set(name, await w8a8.plain!({ rows, columns, values }, options));
    }
    const weightsAt = (at: number) => {
      const own = new Map(model.matrices);
      for (const name of stages.slice(0, at).flat()) own.set(name, matrices.get(name)!);
      return { ...model, matrices: own };
    };
    const { hidden } = await sliceBySlice(weightsAt);
    expect(hidden.data).toEqual((await whole({ ...model, matrices })).data);
    expect(hidden.data).not.toEqual((await whole(model)).data);
  });
});
