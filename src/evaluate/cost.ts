/**
 * What an exported ONNX file costs before it runs: bytes on disk, parameters, bits a weight and multiply-adds, all
 * read off its nodes and initializers. (A model in memory: models/size.ts counts the same way.)
 */

import { statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { byteLength, elementCount } from '../base/tensor.ts';
import type { OnnxModel, OnnxNode, OnnxTensor } from '../io/onnx/model.ts';
import { readOnnx } from '../io/onnx/reader.ts';
import { computedWeights } from './computed.ts';

export interface Cost {
  /** Of all files that the model needs to run: the .onnx file and its external data. */
  readonly bytes: number;
  /** Weights of matrices, norms and biases; tied ones once, however they are encoded. */
  readonly parameters: number;
  /** Bits stored for each parameter, scales and zero points included. */
  readonly bitsPerWeight: number;
  /** Of the matrix products with weights that one token passes through, the head included. */
  readonly multiplyAdds: number;
}

/** @throws LapidaryError on a file that is not ONNX */
export function fileCost(path: string): Cost {
  const model = readOnnx(path);
  const { tensors, parameters, multiplyAdds } = weightsOf(model);
  const external = new Set<string>();
  for (const { data } of model.initializers) if ('location' in data) external.add(data.location);
  let bytes = statSync(path).size;
  for (const location of external) bytes += statSync(join(dirname(path), location)).size;
  const weightBytes = [...tensors].reduce((sum, { dtype, shape }) => sum + byteLength(dtype, shape), 0);
  return { bytes, parameters, bitsPerWeight: (8 * weightBytes) / parameters, multiplyAdds };
}

/** The weights of an ONNX file as they are stored, for listings. @throws LapidaryError on a file that is not ONNX */
export function fileTensors(path: string): {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: string;
  readonly bytes: number;
}[] {
  const model = readOnnx(path);
  const { tensors } = weightsOf(model);
  return model.initializers
    .filter((tensor) => tensors.has(tensor))
    .map(({ name, shape, dtype }) => ({ name, shape, dtype, bytes: byteLength(dtype, shape) }));
}

interface Roles {
  /** Inputs that are weights. */
  readonly weight: readonly number[];
  /** Inputs that belong to their storage: scales, zero points. */
  readonly side: readonly number[];
}

const products: Readonly<Record<string, Roles>> = {
  MatMul: { weight: [0, 1], side: [] },
  FusedMatMul: { weight: [0, 1], side: [] },
  Gemm: { weight: [1], side: [] },
  MatMulNBits: { weight: [1], side: [2, 3] },
  MatMulInteger: { weight: [1], side: [] },
};
const lookups: Readonly<Record<string, Roles>> = {
  Gather: { weight: [0], side: [] },
  GatherBlockQuantized: { weight: [0], side: [2, 3] },
};
/** Nodes that only change how a weight is written. */
const views = new Set([
  'Reshape',
  'Transpose',
  'Cast',
  'Identity',
  'DequantizeLinear',
  'Unsqueeze',
  'Squeeze',
]);

interface Weights {
  readonly parameters: number;
  readonly multiplyAdds: number;
  /** Everything that is stored for them, scales and zero points included. */
  readonly tensors: ReadonlySet<OnnxTensor>;
}

/** What of a model are its weights, and how many. */
function weightsOf(model: OnnxModel): Weights {
  const { trace, sides } = tracer(model);
  const computed = computedWeights(model);
  const tensors = new Set<OnnxTensor>();
  let [parameters, multiplyAdds] = [0, 0];
  const count = (tensor: OnnxTensor, elements: number) => {
    if (!tensors.has(tensor)) parameters += elements;
    tensors.add(tensor);
  };
  const useComputed = (node: OnnxNode, name: string, sides: readonly string[]) => {
    const { shape, tensors: parts } = computed(name) ?? { shape: [], tensors: [] };
    const packed = node.type === 'MatMulNBits';
    if (parts.length === 0 || (shape.length !== 2 && !packed)) return;
    const elements = packed ? attribute(node, 'K', 0) * attribute(node, 'N', 0) : elementCount(shape);
    multiplyAdds += elements;
    count(parts[0], elements);
    for (const part of [...parts, ...sides.flatMap((side) => computed(side)?.tensors ?? [])])
      tensors.add(part);
  };
  const use = (node: OnnxNode, roles: Roles, multiplies: boolean) => {
    for (const index of roles.weight) {
      const tensor = trace(node.inputs[index]);
      const own = roles.side.map((at) => node.inputs[at]).filter((side) => side);
      if (!tensor && multiplies) useComputed(node, node.inputs[index], own);
      if (!tensor || tensor.shape.length < 2) continue;
      const elements = elementsOf(node, tensor);
      if (multiplies) multiplyAdds += elements;
      count(tensor, elements);
      for (const side of own) for (const part of computed(side)?.tensors ?? []) tensors.add(part);
      for (const side of sides(node.inputs[index])) tensors.add(side);
    }
  };
  // Products first: what a quantized embedding shares with the head is then counted by its true size.
  for (const node of model.nodes) if (node.type in products) use(node, products[node.type], true);
  const width = embeddingWidth(model, (name) => trace(name)?.shape ?? computed(name)?.shape);
  for (const node of model.nodes) {
    const tensor = node.type in lookups ? trace(node.inputs[0]) : undefined;
    if (tensor && (isPacked(node, tensor) || isTurned(node, tensor))) {
      count(tensor, isTurned(node, tensor) ? elementCount(tensor.shape) : tensor.shape[0] * width);
      for (const side of packedSides(model, node).map(trace)) if (side) tensors.add(side);
    }
    // Other tables that are looked up (rotary ones) are no weights; learned positions are as wide as the embedding.
    else if (widthOf(node, tensor) === width) use(node, lookups[node.type], false);
  }
  for (const name of scalesOfIntegers(model))
    for (const part of computed(name)?.tensors ?? []) tensors.add(part);
  for (const node of model.nodes) {
    if (node.type in lookups || views.has(node.type)) continue;
    for (const input of node.inputs) {
      const tensor = trace(input);
      if (tensor && isVector(tensor)) count(tensor, elementCount(tensor.shape));
    }
  }
  return { parameters, multiplyAdds, tensors };
}

/** What integer products are multiplied by: stored scales are no weights of their own. */
function scalesOfIntegers({ nodes }: OnnxModel): readonly string[] {
  const sums = new Set<string>();
  const scales: string[] = [];
  for (const { type, inputs, outputs } of nodes) {
    const [, ...others] = inputs;
    if (type !== 'MatMulInteger' && !((type === 'Cast' || type === 'Mul') && sums.has(inputs[0]))) continue;
    sums.add(outputs[0]);
    if (type === 'Mul') scales.push(...others);
  }
  return scales;
}

/** Finds the initializer behind a value, and what else the nodes between them store. */
function tracer(model: OnnxModel) {
  const initializers = new Map(model.initializers.map((tensor) => [tensor.name, tensor]));
  const makers = new Map(
    model.nodes.flatMap((node) => node.outputs.map((output) => [output, node] as const)),
  );
  const trace = (name: string | undefined): OnnxTensor | undefined => {
    if (!name) return undefined;
    const maker = makers.get(name);
    return initializers.get(name) ?? (maker && views.has(maker.type) ? trace(maker.inputs[0]) : undefined);
  };
  const sides = (name: string): OnnxTensor[] => {
    const maker = makers.get(name);
    if (!maker || !views.has(maker.type)) return [];
    const own = maker.type === 'DequantizeLinear' ? maker.inputs.slice(1).map(trace) : [];
    return [...own.filter((tensor) => tensor !== undefined), ...sides(maker.inputs[0])];
  };
  return { trace, sides };
}

function attribute(node: OnnxNode, name: string, otherwise: number): number {
  const value = node.attributes[name];
  return typeof value === 'number' ? value : otherwise;
}

/** Weights in a tensor: packed ones are more than its elements. */
function elementsOf(node: OnnxNode, tensor: OnnxTensor): number {
  if (node.type === 'MatMulNBits') return attribute(node, 'K', 0) * attribute(node, 'N', 0);
  return elementCount(tensor.shape) * packing(node, tensor);
}

function packing(node: OnnxNode, tensor: OnnxTensor): number {
  return node.type === 'GatherBlockQuantized' && tensor.dtype === 'uint8'
    ? 8 / attribute(node, 'bits', 4)
    : 1;
}

/** Width of the rows that a lookup gives; a Reshape before it may have packed the tensor otherwise. */
function widthOf(node: OnnxNode, tensor: OnnxTensor | undefined): number | undefined {
  if (!tensor || tensor.shape.length < 2) return undefined;
  return (elementCount(tensor.shape) / tensor.shape[0]) * packing(node, tensor);
}

/** Of the hidden states: what the last product, the head, takes in. */
function embeddingWidth(model: OnnxModel, shapeOf: (name: string) => readonly number[] | undefined): number {
  const head = model.nodes.findLast(
    ({ type, inputs }) => type in products && (shapeOf(inputs[1])?.length ?? 0) > 1,
  );
  if (!head) return 0;
  if (head.type === 'MatMulNBits') return attribute(head, 'K', 0);
  return shapeOf(head.inputs[1])![attribute(head, 'transB', 0) === 1 ? 1 : 0];
}

/** A table of codes [rows, blocks, bytes], which plain nodes behind the lookup unpack. */
function isPacked({ type }: OnnxNode, { dtype, shape }: OnnxTensor): boolean {
  return type === 'Gather' && dtype === 'uint8' && shape.length === 3;
}

/** A table of codes [columns, rows]. */
function isTurned(node: OnnxNode, { dtype, shape }: OnnxTensor): boolean {
  return (
    node.type === 'Gather' && dtype === 'uint8' && shape.length === 2 && attribute(node, 'axis', 0) === 1
  );
}

/** What else is looked up at the same indices: scales and zero points. */
function packedSides({ nodes }: OnnxModel, codes: OnnxNode): readonly string[] {
  return nodes
    .filter((node) => node !== codes && node.type === 'Gather' && node.inputs[1] === codes.inputs[1])
    .map(({ inputs }) => inputs[0]);
}

/** A norm's weight or a bias: more than one real number in one row. */
function isVector({ dtype, shape }: OnnxTensor): boolean {
  return (
    shape.length === 1 && shape[0] > 1 && (dtype === 'float32' || dtype === 'float16' || dtype === 'bfloat16')
  );
}
