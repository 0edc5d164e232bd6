import { describe, expect, it } from 'vitest';
import { tinyLlama } from '../../../test/models/tiny.ts';
import { random } from '../../base/random.ts';
import { tensor } from '../../graph/session.ts';
import { openCheckpoint } from '../../io/checkpoint.ts';
import { loadModel } from '../../models/index.ts';
import type { Model } from '../../models/model.ts';
import { logits } from '../../models/runner.ts';
import type { RewriteContext } from '../../contract/method.ts';
import { contextOf } from '../../run/context.ts';
import { learn, spinquant } from '../../methods/quantize/spinquant.ts';
import type { Learned } from './cayley.ts';
import { openCayley, unlearned } from './cayley.ts';
import { fold } from './fold.ts';
import type { LossOptions } from './loss.ts';
import { openLoss } from './loss.ts';
import { rotate } from './rotate.ts';
import { randomHeads, randomRotation, randomStream, withTurner } from './rotation.ts';
import { sitesOf } from './sites.ts';

/** Threads cost more than they save on models this small. */
const session = { threads: 1 };

const contextFor = (model: Model): RewriteContext => {
  const draw = random(7);
  const sequences = Array.from({ length: 4 }, () =>
    Int32Array.from({ length: 12 }, () => draw.integer(model.config.vocabulary)),
  );
  return contextOf(model, sequences, { seed: 3, ...session });
};

/** Largest entry of R R^T - I. */
function unorthogonal({ size, values }: Learned): number {
  let most = 0;
  for (let i = 0; i < size; i++) {
    for (let j = 0; j < size; j++) {
      let sum = i === j ? -1 : 0;
      for (let k = 0; k < size; k++) sum += values[i * size + k] * values[j * size + k];
      most = Math.max(most, Math.abs(sum));
    }
  }
  return most;
}

describe('Cayley steps', () => {
  const size = 12;
  const towards = Float32Array.from({ length: size * size }, (_, i) => (i % (size + 1) === 0 ? -1 : 0));

  /** Maximizes the trace: its gradient is -I, its rotation the identity. */
  async function descend(keepsMean: boolean, steps: number): Promise<Learned> {
    const start = await withTurner(session, (turner) =>
      randomRotation(size, random(2), { turner, keepsMean }),
    );
    const cayley = await openCayley(keepsMean, session);
    let rotation = unlearned(start);
    for (let step = 0; step < steps; step++) {
      rotation = await cayley.step(rotation, tensor('float32', [size, size], towards), 0.1);
    }
    await cayley.release();
    return rotation;
  }
  const trace = ({ values }: Learned) => values.reduce((sum, value, i) => sum - value * towards[i], 0);

  it('stay orthogonal and go downhill', async () => {
    const [start, end] = [await descend(false, 0), await descend(false, 20)];
    expect(unorthogonal(end)).toBeLessThan(1e-5);
    expect(trace(end)).toBeGreaterThan(trace(start) + 5);
  });

  it('turn by the angle that was asked for', async () => {
    const [start, end] = [await descend(false, 0), await descend(false, 1)];
    const moved = end.values.reduce((sum, value, i) => sum + (value - start.values[i]) ** 2, 0);
    expect(Math.sqrt(moved / size)).toBeCloseTo(0.1, 2);
  });

  it('leave the mean where it is, where they must', async () => {
    const { values } = await descend(true, 10);
    for (let row = 0; row < size; row++) {
      const sum = values.subarray(row * size, (row + 1) * size).reduce((total, value) => total + value, 0);
      expect(sum).toBeCloseTo(1, 4);
    }
  });
});

describe('the expected loss', () => {
  it('has the gradient that finite differences give', async () => {
    const model = fold(tinyLlama({ tied: false }));
    const sites = await sitesOf(model, contextFor(model), { samples: 8, random: random(1) });
    const options: LossOptions = { bits: 4, group: 4, inputBits: 4 };
    const loss = openLoss(sites, model.config.hidden, options, session);
    const [stream, heads] = await withTurner(session, async (turner) => [
      await randomStream(model, 1, turner),
      (await randomHeads(model, 1, turner))(1),
    ]);
    const exact = await loss.at(1, stream, heads);
    const moved = async (part: 'stream' | 'heads', index: number, by: number) => {
      const shift = (rotation: typeof stream) => {
        const values = rotation.values.slice();
        values[index] += by;
        return { ...rotation, values };
      };
      return part === 'stream' ? loss.at(1, shift(stream), heads) : loss.at(1, stream, shift(heads));
    };
    for (const [part, index] of [
      ['stream', 5],
      ['stream', 42],
      ['heads', 3],
      ['heads', 9],
    ] as const) {
      const [up, down] = [await moved(part, index, 2e-3), await moved(part, index, -2e-3)];
      const slope = (up.loss - down.loss) / 4e-3;
      const found = (exact[part].data as Float32Array)[index];
      expect(Math.abs(found - slope), `${part} ${index}`).toBeLessThan(0.02 * Math.abs(slope) + 1e-5);
    }
    await loss.release();
  });
});

describe('learned rotations', () => {
  it.each(['llama-tied-llama3rope', 'gpt2'])(
    'lose less than the random ones they begin with, and change no logits: %s',
    async (name) => {
      const model = loadModel(await openCheckpoint(`test/models/${name}`));
      const context = contextFor(model);
      const choice = spinquant.options.parse({ steps: 12, samples: 16, group: 16 });
      const folded = fold(model);
      const { losses, learned } = await withTurner(session, async (turner) => {
        const { rotations, losses } = await learn(folded, choice, context, turner);
        return { losses, learned: await rotate(folded, rotations, { turner }) };
      });
      const layers = model.config.layers.length;
      const mean = (some: readonly number[]) => some.reduce((a, b) => a + b) / layers;
      expect(mean(losses.slice(-layers))).toBeLessThan(0.95 * mean(losses.slice(0, layers)));
      const [x, y] = [
        await logits(model, context.sequences, session),
        await logits(learned, context.sequences),
      ].map(({ data }) => data as Float32Array);
      const largest = x.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      const apart = x.reduce((most, value, i) => Math.max(most, Math.abs(value - y[i])), 0);
      expect(apart / largest).toBeLessThan(1e-4);
    },
  );
});
