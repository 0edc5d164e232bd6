/** What a plan starts from: every matrix of a model with the bytes it takes, without reading it. */

import { elementCount } from '../base/tensor.ts';
import { openSampler } from '../calibrate/noise.ts';
import { rotatedSize } from '../models/rope.ts';
import { total } from '../base/total.ts';
import type { Assignment, Target } from '../calibrate/targets.ts';
import { keptOf, targetsOf } from '../calibrate/targets.ts';
import { asksPrompts } from '../generate/answers.ts';
import type { Encoding } from '../encodings/encoding.ts';
import { encodedBytes } from '../encodings/encoding.ts';
import { isComputed } from '../export/attention.ts';
import { Graph } from '../graph/graph.ts';
import type { Model } from '../models/model.ts';
import type { OpenedCheckpoint } from '../open.ts';
import type { Texts } from '../run/texts.ts';
import { assignment } from '../run/assignment.ts';
import type { Recipe } from '../recipe/recipe.ts';

export interface PlanInput {
  readonly original: OpenedCheckpoint;
  readonly recipe: Recipe;
  readonly texts: Texts;
  /** The folder to write. */
  readonly out: string;
  /** Whether speed is measured; by default. */
  readonly speed?: boolean | undefined;
  /** Whether both models answer prompts: see `asksPrompts`. */
  readonly answers?: boolean | undefined;
}

/** Bytes that are taken for something, in words. */
export interface Part {
  readonly what: string;
  readonly bytes: number;
}

/** What is known of a matrix without reading it. */
export interface PlannedMatrix extends Target {
  /** Undefined: it stays as it is. */
  readonly assigned?: Assignment | undefined;
  /** Bytes in float32. */
  readonly dense: number;
  /** Bytes as it is stored now, and afterwards. */
  readonly before: number;
  readonly after: number;
  /** Bytes in the file that is written, and in the one that the original is written to for comparison. */
  readonly inFile: number;
  readonly inPlainFile: number;
}

export interface Facts extends PlanInput {
  readonly speed: boolean;
  readonly answers: boolean;
  readonly model: Model;
  readonly matrices: readonly PlannedMatrix[];
}

/** Of each kind of step a few rows of noise are compressed, to learn what it stores. */
export async function factsOf(input: PlanInput): Promise<Facts> {
  const { speed = true, original } = input;
  const { model } = original;
  return { ...input, speed, answers: asksPrompts(input, model), model, matrices: await planMatrices(input) };
}

async function planMatrices({ original: { model }, recipe }: PlanInput): Promise<PlannedMatrix[]> {
  const assign = assignment(recipe, model);
  const sampleOf = openSampler();
  const planned: PlannedMatrix[] = [];
  for (const target of targetsOf(model)) {
    const weights = elementCount(target.shape);
    const assigned = assign(target);
    const encoding = model.matrices.get(target.name)!;
    const kept = assigned && keptOf(assigned, encoding);
    const sample = kept ?? (assigned && (await sampleOf(assigned, target.shape[1])));
    const share = sample ? weights / elementCount(sample.shape) : 1;
    planned.push({
      ...target,
      assigned,
      dense: 4 * weights,
      before: encodedBytes(encoding),
      after: share * encodedBytes(sample ?? encoding),
      inFile: share * writtenBytes(sample ?? encoding, recipe),
      inPlainFile: writtenBytes(encoding, recipe),
    });
  }
  return planned;
}

/** Bytes of a matrix in a file: of what its nodes read, or of GGUF's blocks and floats. */
function writtenBytes(encoding: Encoding, { export: { format, activations, floats } }: Recipe): number {
  if (encoding.bits < 16) return format === 'gguf' ? encodedBytes(encoding) : placedBytes(encoding);
  const wide = format === 'gguf' ? floats === 'F32' : activations === 'float32' && encoding.bits === 32;
  return (wide ? 4 : 2) * elementCount(encoding.shape);
}

/** Of the tensors that an encoding puts into a graph: blocks stand there as grouped integers. */
function placedBytes(encoding: Encoding): number {
  const graph = new Graph();
  const x = graph.input('x', 'float32', ['rows', encoding.shape[1]]);
  encoding.multiply(x, (suffix, tensor) => graph.weight(suffix, tensor));
  return total([...graph.weights.values()].map(({ stored }) => stored.byteLength));
}

/** Cosines and sines of all positions, where they stand in the file. */
export function positionBytes({ model: { config }, recipe: { export: own } }: Facts): number {
  if (own.format !== 'onnx') return 0;
  const sizes = new Map(
    config.layers.flatMap(({ rope, headSize }) =>
      rope && !isComputed(rope, config.context)
        ? [[JSON.stringify([rope, headSize]), rotatedSize(rope, headSize)] as const]
        : [],
    ),
  );
  return (own.activations === 'float16' ? 2 : 4) * config.context * total([...sizes.values()]);
}

export const most = (values: readonly number[]): number => Math.max(0, ...values);
