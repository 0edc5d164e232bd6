/** Memory that training takes: gradients flow back through values that forward passes let go of. */

import { dense, lazyValues } from '../encodings/dense.ts';
import { gradient } from '../graph/gradient.ts';
import { Graph } from '../graph/graph.ts';
import { peakBytes } from '../graph/memory.ts';
import { mul, reduceSum } from '../graph/ops.ts';
import { plainScope } from '../models/build.ts';
import type { Model } from '../models/model.ts';
import type { Recipe } from '../recipe/recipe.ts';
import type { Facts, Part } from './facts.ts';
import { total } from '../base/total.ts';
import { most } from './facts.ts';

/** Float32 numbers that are kept of a weight in training: what it is, where it is on its way, Adam's moments, its gradient. */
const perWeight = 5;
/** Logits at once, of both models, with what compares them and flows back. */
const logitCopies = 6;

/** Calibration sequences that are run at once where blocks are trained one by one; 0 where they are not. */
function blockBatch({ matrices, recipe, texts }: Facts): number {
  const length = texts.calibration[0]?.length ?? 1;
  const compressors = matrices.flatMap(({ assigned }) =>
    assigned?.method.shape === 'train' ? [assigned.method.batch(assigned.options, length)] : [],
  );
  const after = recipe.steps.flatMap(({ method, options }) =>
    method.shape === 'train' && method.scope === 'compressed block' ? [method.batch(options, length)] : [],
  );
  return most([...compressors, ...after]);
}

/** For the largest of the walk's blocks, beside what stays meanwhile; 0 where none is trained. */
export function blockTraining(facts: Facts): number {
  const { model, matrices } = facts;
  const layers = [...model.config.layers.keys()];
  const weights = layers.map((layer) =>
    total(matrices.filter((matrix) => matrix.layer === layer).map((matrix) => matrix.dense)),
  );
  const batch = blockBatch(facts);
  return batch === 0 ? 0 : perWeight * most(weights) + backward(facts, batch, 'weights');
}

/** Calibration sequences of a step, where the whole model is trained at the end; 0 where it is not. */
export const modelBatch = ({ steps }: Recipe): number =>
  most(
    steps.flatMap(({ method, options }) =>
      method.shape === 'train' && method.scope === 'model' ? [method.batch(options)] : [],
    ),
  );

/** Of the whole model, block by block: hidden states between all blocks, codes of all of them, and both heads. */
export function modelTraining(facts: Facts): readonly Part[] {
  const { model, matrices, texts, recipe } = facts;
  const { hidden, vocabulary, layers } = model.config;
  const batch = Math.min(modelBatch(recipe), texts.calibration.length);
  const [{ length }] = texts.calibration;
  const codes = matrices.map(({ place, dense }) => (place === 'block' ? dense / 4 : 0));
  const head = most(matrices.map(({ place, dense }) => (place === 'block' ? 0 : dense)));
  return [
    { what: "the original's last hidden states", bytes: 4 * hidden * length * texts.calibration.length },
    { what: 'hidden states between blocks', bytes: 4 * hidden * length * batch * (layers.length + 1) },
    { what: 'codes of all blocks', bytes: total(codes) },
    { what: 'both heads', bytes: 2 * head },
    { what: 'logits', bytes: logitCopies * 4 * length * vocabulary },
    { what: 'values while gradients flow back', bytes: backward(facts, batch, 'inputs') },
  ];
}

/** Of a block's graph, forward and back, for so many sequences: bytes of values at once. */
function backward({ model, texts }: Facts, batch: number, by: 'weights' | 'inputs'): number {
  const time = texts.calibration[0]?.length ?? 0;
  const sizes = { batch: Math.min(batch, texts.calibration.length), time };
  return most(model.config.layers.map((_, layer) => peakBytes(backwardGraph(model, layer, by), sizes)));
}

function backwardGraph(model: Model, layer: number, by: 'weights' | 'inputs'): Graph {
  const { architecture, config, vectors } = model;
  const graph = new Graph('inputs');
  const x = graph.input('x', 'float32', ['batch', 'time', config.hidden]);
  // As floats, whatever they are stored as: only those have gradients.
  const get = (name: string) => {
    const found = model.matrices.get(name);
    return found && dense(lazyValues(found.shape, () => found.dense()));
  };
  const scope = plainScope(graph, config, { matrices: { get }, vectors }, { time: 'time', longest: 1 });
  const output = architecture.block(scope, x, layer);
  const loss = reduceSum(mul(output, output), [0, 1, 2]);
  const weights = [...graph.weights.values()].flatMap(({ value }) =>
    value.shape.length === 2 ? [value] : [],
  );
  for (const [i, slope] of gradient(loss, by === 'weights' ? weights : [x, ...weights]).entries())
    graph.output(`slope.${i}`, slope);
  return graph;
}
