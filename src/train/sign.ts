/**
 * Signed gradient descent as nodes of the graph that holds the gradients: w' = w - rate sign(g). Every number moves by the
 * same amount a step, whatever the size of its gradient, so that the sum of all rates is as far as any can come. One run
 * of the graph is one step, and on a device the numbers need never leave it.
 */

import { LapidaryError } from '../base/errors.ts';
import { gradient } from '../graph/gradient.ts';
import type { Graph, Value } from '../graph/graph.ts';
import { mul, scale, sign, sub } from '../graph/ops.ts';
import type { Feeds, SessionOptions } from '../graph/session.ts';
import { feedsOf, openSession, tensor } from '../graph/session.ts';
import { names } from './step.ts';

const rateName = 'sign.rate';

export interface SignParameter {
  /** An input of the graph. */
  readonly value: Value;
  /** How fast it moves, as a share of the rate. */
  readonly share: number;
}

/**
 * Adds the gradients and the update: "step/loss", and "next/..." of each parameter.
 * @param loss [] in a graph that takes the parameters as inputs
 */
export function signStep(loss: Value, parameters: readonly SignParameter[]): void {
  const { graph } = loss;
  const rate = graph.input(rateName, 'float32', []);
  const values = parameters.map(({ value }) => value);
  graph.output(names.loss, loss);
  for (const [i, slope] of gradient(loss, values).entries()) {
    const { value, share } = parameters[i];
    graph.output(names.next(value.name), sub(value, mul(sign(slope), scale(rate, share))));
  }
}

export interface SignDescent {
  /**
   * @returns the loss before the step
   * @throws LapidaryError when it is no number
   */
  step(batch: Feeds, rate: number): Promise<number>;
  /** The parameters as they are, on the device; valid until the next step. */
  parameters(): Feeds;
  /** The parameters are of no use any more. */
  release(): Promise<void>;
}

/**
 * @param graph with a `signStep`; what else it takes is fed with each batch
 * @param start of every parameter, by name; stays the caller's
 */
export async function openSignDescent(
  graph: Graph,
  start: Feeds,
  options: Pick<SessionOptions, 'device' | 'threads'>,
): Promise<SignDescent> {
  const parameters = Object.keys(start);
  const session = await openSession(graph, { ...options, keep: parameters.map(names.next) });
  const fixed = graph.weightsAs === 'inputs' ? feedsOf(graph.weights) : {};
  let now = start;
  let steps = 0;
  return {
    async step(batch, rate) {
      const given = { [rateName]: tensor('float32', [], Float32Array.of(rate)) };
      const outputs = await session.run({ ...fixed, ...batch, ...now, ...given });
      const loss = Number(outputs[names.loss].data[0]);
      const next = Object.fromEntries(parameters.map((name) => [name, outputs[names.next(name)]]));
      if (!Number.isFinite(loss)) {
        dispose(next);
        throw new LapidaryError({ what: `training diverged at step ${steps + 1}`, found: `loss ${loss}` });
      }
      if (now !== start) dispose(now);
      now = next;
      steps += 1;
      return loss;
    },
    parameters: () => now,
    async release() {
      if (now !== start) dispose(now);
      await session.release();
    },
  };
}

/** Frees what lies on a device now rather than when it is collected. */
function dispose(tensors: Feeds): void {
  for (const each of Object.values(tensors)) if (each.location === 'gpu-buffer') each.dispose();
}
