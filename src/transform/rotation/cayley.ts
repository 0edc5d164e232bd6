/**
 * Steps that stay among orthogonal matrices: Cayley SGD with momentum (Li, Fuxin, Todorovic, 2020, arXiv:2002.01113,
 * algorithm 1, as SpinQuant uses it), its inverse by fixed-point iterations. A step's length is given as an angle.
 */

import { Graph } from '../../graph/graph.ts';
import {
  add,
  div,
  fusedMatmul,
  matmul,
  mul,
  neg,
  reduceMean,
  reduceSum,
  scalar,
  scale,
  sqrt,
  sub,
  transpose,
} from '../../graph/ops.ts';
import type { Value } from '../../graph/graph.ts';
import type { SessionOptions, Tensor } from '../../graph/session.ts';
import { openSession, tensor } from '../../graph/session.ts';
import { fedRotation } from './loss.ts';
import type { Rotation } from './rotation.ts';

/** A rotation that is being learned. */
export interface Learned extends Rotation {
  /** [size, size], tangent to the rotation. */
  readonly momentum: Float32Array;
}

export interface Cayley {
  /** @param angle root mean square of what the step turns each direction by, in radians */
  step(rotation: Learned, gradient: Tensor, angle: number): Promise<Learned>;
  release(): Promise<void>;
}

const decay = 0.9;
const iterations = 5;

export const unlearned = (rotation: Rotation): Learned => ({
  ...rotation,
  momentum: new Float32Array(rotation.size ** 2),
});

/** @param keepsMean steps leave the vector of ones where it is */
export async function openCayley(
  keepsMean: boolean,
  { threads }: Pick<SessionOptions, 'threads'>,
): Promise<Cayley> {
  const graph = new Graph();
  const input = (name: string) => graph.input(name, 'float32', ['size', 'size']);
  const [r, gradient, momentum] = [input('rotation'), input('gradient'), input('momentum')];
  const angle = graph.input('angle', 'float32', []);
  const skew = skewed(r, add(scale(momentum, decay), gradient), keepsMean);
  // An angle of the root mean square of a skew matrix's rows.
  const length = sqrt(reduceMean(reduceSum(mul(skew, skew), [1]), [0]));
  const by = mul(neg(skew), div(angle, add(length, scalar(graph, 1e-20))));
  graph.output('next', orthonormal(turned(r, by)));
  graph.output('kept', matmul(skew, r));
  const session = await openSession(graph, { threads });
  return {
    async step(rotation, toRotation, turn) {
      const { size } = rotation;
      const { next, kept } = await session.run({
        rotation: fedRotation(rotation),
        gradient: toRotation,
        momentum: tensor('float32', [size, size], rotation.momentum),
        angle: tensor('float32', [], Float32Array.of(turn)),
      });
      return { size, values: next.data as Float32Array, momentum: kept.data as Float32Array };
    },
    release: () => session.release(),
  };
}

/** W - W^T with W = M R^T - R (R^T M R^T) / 2: the direction among rotations that is nearest to M. */
function skewed(r: Value, m: Value, keepsMean: boolean): Value {
  const product = fusedMatmul(m, r, { transB: true });
  const half = scale(matmul(r, fusedMatmul(r, product, { transA: true })), 0.5);
  const w = sub(product, half);
  const skew = sub(w, transpose(w));
  if (!keepsMean) return skew;
  return sub(sub(skew, reduceMean(skew, [0], true)), reduceMean(skew, [1], true));
}

/** (I - A / 2)^-1 (I + A / 2) R by Y <- R + A (R + Y) / 2. */
function turned(r: Value, by: Value): Value {
  let y = add(r, matmul(by, r));
  for (let i = 1; i < iterations; i++) y = add(r, scale(matmul(by, add(r, y)), 0.5));
  return y;
}

/** One step of Newton and Schulz to the nearest orthogonal matrix, so that roundings do not add up. */
function orthonormal(y: Value): Value {
  return sub(scale(y, 1.5), scale(matmul(y, fusedMatmul(y, y, { transA: true })), 0.5));
}
