/**
 * The weights of an ONNX file as its nodes use them: for each matrix what is stored for it (codes, scales, zero points), how
 * many weights that are, and how often they multiply. Read off nodes and initializers, so of anybody's file.
 */

import { byteLength, elementCount } from '../base/tensor.ts';
import type { OnnxModel, OnnxNode, OnnxTensor } from '../io/onnx/model.ts';
import { computedWeights } from './computed.ts';

export interface StoredWeight {
  /** What the names of its parts begin with: "model.layers.0.self_attn.q_proj". */
  readonly name: string;
  /** Of the weight; a matrix that a plain product takes is [in, out], as it is stored. */
  readonly shape: readonly number[];
  /** "float16", "4-bit, group 32, zero points" */
  readonly label: string;
  readonly parameters: number;
  /** Of all its parts. */
  readonly bytes: number;
  /** Names of what is stored for it. */
  readonly parts: readonly string[];
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

/** What is stored for one weight while it is collected. */
interface Collected {
  readonly shape: readonly number[];
  readonly parameters: number;
  /** The first holds its values or codes. */
  readonly parts: Set<OnnxTensor>;
  /** Of codes in blocks, as the node that reads them says it: rows may end in a block that is filled up. */
  readonly blocks?: { readonly bits: number; readonly size: number } | undefined;
}

/** What of a model are its weights, and the multiply-adds of their products for one token on its way to the logits. */
export function storedWeights(model: OnnxModel): {
  readonly weights: readonly StoredWeight[];
  readonly multiplyAdds: number;
} {
  const { collected, multiplyAdds } = collect(model);
  return { weights: collected.map(described), multiplyAdds };
}

function collect(model: OnnxModel) {
  const { trace, sides } = tracer(model);
  const computed = computedWeights(model);
  const passed = passedBy(model);
  const collected: Collected[] = [];
  const owners = new Map<OnnxTensor, Collected>();
  let multiplyAdds = 0;
  const partsOf = (name: string) => computed(name)?.tensors ?? [];
  const add = (
    main: OnnxTensor,
    shape: readonly number[],
    others: readonly OnnxTensor[] = [],
    blocks?: Collected['blocks'],
  ) => {
    const weight = owners.get(main) ?? {
      shape,
      parameters: elementCount(shape),
      parts: new Set<OnnxTensor>(),
      blocks,
    };
    if (!owners.has(main)) collected.push(weight);
    for (const part of [main, ...others]) {
      if (owners.has(part)) continue;
      weight.parts.add(part);
      owners.set(part, weight);
    }
  };
  const useComputed = (node: OnnxNode, name: string, own: readonly string[]) => {
    const { shape, tensors: parts } = computed(name) ?? { shape: [], tensors: [] };
    const packed = node.type === 'MatMulNBits';
    if (parts.length === 0 || (shape.length !== 2 && !packed)) return;
    const whole = packed ? [attribute(node, 'N', 0), attribute(node, 'K', 0)] : shape;
    if (passed(node)) multiplyAdds += elementCount(whole);
    add(parts[0], whole, [...parts, ...own.flatMap(partsOf)], blocksOf(node));
  };
  const use = (node: OnnxNode, roles: Roles, multiplies: boolean) => {
    for (const index of roles.weight) {
      const name = node.inputs[index];
      const tensor = trace(name);
      const own = roles.side.map((at) => node.inputs[at]).filter((side) => side);
      if (!tensor && multiplies) useComputed(node, name, own);
      if (!tensor || tensor.shape.length < 2) continue;
      const shape = shapeOf(node, tensor);
      if (multiplies && passed(node)) multiplyAdds += elementCount(shape);
      add(tensor, shape, [...own.flatMap(partsOf), ...sides(name)], blocksOf(node));
    }
  };
  // Products first: what a quantized embedding shares with the head is then counted by its true size.
  for (const node of model.nodes) if (node.type in products) use(node, products[node.type], true);
  const width = embeddingWidth(model, (name) => trace(name)?.shape ?? computed(name)?.shape);
  for (const node of model.nodes) {
    const tensor = node.type in lookups ? trace(node.inputs[0]) : undefined;
    if (tensor && (isPacked(node, tensor) || isTurned(node, tensor))) {
      const shape = isTurned(node, tensor) ? tensor.shape : [tensor.shape[0], width];
      const others = packedSides(model, node).map(trace);
      add(
        tensor,
        shape,
        others.filter((side) => side !== undefined),
      );
    }
    // Other tables that are looked up (rotary ones) are no weights; learned positions are as wide as the embedding.
    else if (widthOf(node, tensor) === width) use(node, lookups[node.type], false);
  }
  for (const { weight, scales } of scalesOfIntegers(model)) {
    const main = trace(weight) ?? partsOf(weight)[0];
    if (main) add(main, main.shape, scales.flatMap(partsOf));
  }
  for (const node of model.nodes) {
    if (node.type in lookups || views.has(node.type)) continue;
    for (const input of node.inputs) {
      const tensor = trace(input);
      if (tensor && isVector(tensor)) add(tensor, tensor.shape);
    }
  }
  return { collected, multiplyAdds };
}

/** Whether the logits hang on a node: other heads are not on every token's way. All nodes where no output is called so. */
function passedBy({ nodes, outputs }: OnnxModel): (node: OnnxNode) => boolean {
  if (!outputs.some(({ name }) => name === 'logits')) return () => true;
  const needed = new Set(['logits']);
  const passed = new Set<OnnxNode>();
  for (const node of nodes.toReversed()) {
    if (!node.outputs.some((output) => needed.has(output))) continue;
    passed.add(node);
    for (const input of node.inputs) needed.add(input);
  }
  return (node) => passed.has(node);
}

/** What integer products are multiplied by: stored scales are no weights of their own. */
function scalesOfIntegers({
  nodes,
}: OnnxModel): readonly { readonly weight: string; readonly scales: readonly string[] }[] {
  /** Results by name, with the weight that they are products of. */
  const sums = new Map<string, string>();
  const found: { weight: string; scales: readonly string[] }[] = [];
  for (const { type, inputs, outputs } of nodes) {
    const [first, ...others] = inputs;
    const weight = type === 'MatMulInteger' ? inputs[1] : sums.get(first);
    if (weight === undefined || (type !== 'MatMulInteger' && type !== 'Cast' && type !== 'Mul')) continue;
    sums.set(outputs[0], weight);
    if (type === 'Mul') found.push({ weight, scales: others });
  }
  return found;
}

/** What a node says of codes that it reads in blocks; undefined where it reads others. */
function blocksOf(node: OnnxNode): Collected['blocks'] {
  const size = attribute(node, 'block_size', 0);
  return size === 0 ? undefined : { bits: attribute(node, 'bits', 4), size };
}

function described({ shape, parameters, parts, blocks }: Collected): StoredWeight {
  const names = [...parts].map(({ name }) => name);
  const bytes = [...parts].reduce((sum, part) => sum + byteLength(part.dtype, part.shape), 0);
  return {
    name: commonName(names),
    shape,
    label: labelOf(parts, parameters, blocks),
    parameters,
    bytes,
    parts: names,
  };
}

/** "q_proj" of "q_proj.codes" and "q_proj.scales"; the first where names have nothing in common. */
function commonName(names: readonly string[]): string {
  const [first, ...others] = names;
  if (others.length === 0) return first;
  let length = 0;
  while (length < first.length && others.every((name) => name[length] === first[length])) length++;
  return first.slice(0, length).replace(/[._/-]+$/, '') || first;
}

const isFloat = (dtype: string): boolean => /^b?float/.test(dtype);

/** How the values are stored, as far as types and counts tell. */
function labelOf(parts: ReadonlySet<OnnxTensor>, parameters: number, blocks: Collected['blocks']): string {
  const [main, ...others] = parts;
  if (isFloat(main.dtype)) return main.dtype;
  const scales = others.find(({ dtype }) => isFloat(dtype));
  const counted = scales && parameters / elementCount(scales.shape);
  const bits = (8 * byteLength(main.dtype, main.shape)) / parameters;
  const filled = Number.isInteger(bits) ? undefined : blocks;
  const group = filled?.size ?? counted;
  return [
    `${filled?.bits ?? Number(bits.toFixed(2))}-bit`,
    ...(group !== undefined && Number.isInteger(group) ? [`group ${group}`] : []),
    ...(others.some(({ dtype }) => !isFloat(dtype)) ? ['zero points'] : []),
  ].join(', ');
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

/** Of the weights in a tensor: packed ones are more than its elements. */
function shapeOf(node: OnnxNode, tensor: OnnxTensor): readonly number[] {
  if (node.type === 'MatMulNBits') return [attribute(node, 'N', 0), attribute(node, 'K', 0)];
  const packed = packing(node, tensor);
  if (packed === 1) return tensor.shape;
  const rows = tensor.shape[0];
  return [rows, (elementCount(tensor.shape) * packed) / rows];
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
