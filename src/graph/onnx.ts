/** A graph as an ONNX model: in memory, or as files whose large tensors lie beside the model. */

import { mkdirSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import type { Stored } from '../base/tensor.ts';
import type { OnnxAttribute, OnnxModel, OnnxNode, OnnxTensor } from '../io/onnx/model.ts';
import { typeCode } from '../io/onnx/model.ts';
import type { Part } from '../io/onnx/writer.ts';
import { encodeParts, joinParts, writeParts } from '../io/onnx/writer.ts';
import type { Graph, Node, Value } from './graph.ts';
import { table } from './ops.ts';

const opset = 21;
const irVersion = 10;
/** Tensors below this stay in the model: shapes and other small constants must, for the engine to read them early. */
const smallest = 1024;
/** External tensors start at multiples of this, so that they can be mapped. */
const alignment = 4096;

/** Where one large tensor's bytes go. */
type Locate = (stored: Stored) => { readonly location: string; readonly offset: number } | undefined;

/** The graph as plain ONNX objects; `locate` says which tensors lie outside. */
function toOnnx(graph: Graph, locate: Locate = () => undefined): OnnxModel {
  const nodes = liveNodes(graph);
  const nameOf = namesIn(graph, nodes);
  const used = usedNames(graph, nodes);
  const initializers = [...graph.initializers].filter(([name]) => used.has(name));
  const place = ([name, stored]: readonly [string, Stored]): OnnxTensor => {
    const external = locate(stored);
    const data = external ? { ...external, length: stored.byteLength } : stored;
    return { name, dtype: stored.dtype, shape: stored.shape, data };
  };
  return {
    producer: 'lapidary',
    irVersion,
    opsets: [
      { domain: '', version: opset },
      { domain: 'com.microsoft', version: 1 },
    ],
    graphName: 'graph',
    nodes: [...nodes.map((node, i) => toNode(node, i, used, nameOf)), ...outputNodes(graph, nameOf)],
    initializers: initializers.map(place),
    inputs: graph.inputs,
    outputs: graph.outputs.map(({ name, value }) => ({ name, dtype: value.dtype, shape: value.shape })),
  };
}

/** What a node computes is named as the graph's first output that it is. */
function namesIn(graph: Graph, nodes: readonly Node[]): (value: Value) => string {
  const computed = new Set(nodes.flatMap(({ outputs }) => outputs));
  const names = new Map<Value, string>();
  for (const { name, value } of graph.outputs)
    if (computed.has(value) && !names.has(value)) names.set(value, name);
  return (value) => names.get(value) ?? value.name;
}

/** Outputs that are inputs, or others once more, are copies. */
function outputNodes(graph: Graph, nameOf: (value: Value) => string): readonly OnnxNode[] {
  return graph.outputs
    .filter(({ name, value }) => name !== nameOf(value))
    .map(({ name, value }) => ({
      name: `output/${name}`,
      domain: '',
      type: 'Identity',
      inputs: [nameOf(value)],
      outputs: [name],
      attributes: {},
    }));
}

/** The nodes that an output depends on; a gradient adds some for inputs that nobody asked about. */
function liveNodes(graph: Graph): readonly Node[] {
  const needed = new Set<Value | undefined>(graph.outputs.map(({ value }) => value));
  const live = graph.nodes.toReversed().filter((node) => {
    const wanted = node.outputs.some((output) => needed.has(output));
    if (wanted) for (const input of node.inputs) needed.add(input);
    return wanted;
  });
  return live.reverse();
}

function usedNames(graph: Graph, nodes: readonly Node[]): ReadonlySet<string> {
  const used = new Set(graph.outputs.map(({ value }) => value.name));
  for (const node of nodes) for (const input of node.inputs) if (input) used.add(input.name);
  return used;
}

function toNode(
  node: Node,
  index: number,
  used: ReadonlySet<string>,
  nameOf: (value: Value) => string,
): OnnxNode {
  const { onnx, optionalFrom } = table[node.op];
  const inputs = trimmed(node.inputs.map((input) => (input ? nameOf(input) : '')));
  const asked = (name: string, i: number) => i < (optionalFrom ?? node.outputs.length) || used.has(name);
  const outputs = trimmed(node.outputs.map((output, i) => (asked(output.name, i) ? nameOf(output) : '')));
  return { name: `${onnx.type}_${index}`, ...onnx, inputs, outputs, attributes: toAttributes(node) };
}

function trimmed(names: readonly string[]): readonly string[] {
  let length = names.length;
  while (length > 0 && names[length - 1] === '') length--;
  return names.slice(0, length);
}

function toAttributes(node: Node): Readonly<Record<string, OnnxAttribute>> {
  const { hints } = table[node.op];
  const written = Object.entries(node.attributes).filter(([name]) => !hints?.includes(name));
  return Object.fromEntries(
    written.map(([name, value]) => [
      name,
      node.op === 'Cast' && name === 'to' ? typeCode[value as 'float32'] : value,
    ]),
  );
}

/** The model's bytes, tensors and all. */
export function encodeModel(graph: Graph): Uint8Array {
  const { parts, byteLength } = encodeParts(toOnnx(graph));
  return joinParts(parts, byteLength);
}

/** The model's bytes with every large tensor as a file of its own, for an engine that takes them from memory. */
export function encodeInPieces(
  graph: Graph,
  threshold: number,
): {
  readonly model: Uint8Array;
  readonly pieces: readonly { readonly path: string; readonly stored: Stored }[];
} {
  const pieces: { path: string; stored: Stored }[] = [];
  const locate: Locate = (stored) => {
    if (stored.byteLength < Math.max(threshold, smallest)) return undefined;
    pieces.push({ path: `tensor_${pieces.length}`, stored });
    return { location: pieces[pieces.length - 1].path, offset: 0 };
  };
  const { parts, byteLength } = encodeParts(toOnnx(graph, locate));
  return { model: joinParts(parts, byteLength), pieces };
}

/**
 * Writes a graph as `path` and, where its tensors take `externalThreshold` bytes or more together, their bytes as
 * `<path>_data`, as transformers.js looks for them. Files appear under their names when they are whole.
 * @returns the files written, the model last
 */
export function writeOnnx(
  graph: Graph,
  path: string,
  { externalThreshold = standardThreshold }: { readonly externalThreshold?: number } = {},
): readonly string[] {
  const data = `${path}_data`;
  const { parts, beside } = partsOf(graph, basename(data), externalThreshold);
  mkdirSync(dirname(path), { recursive: true });
  if (!beside || beside.parts.length === 0) {
    writeParts(path, parts);
    return [path];
  }
  writeParts(data, beside.parts);
  writeParts(path, parts);
  return [data, path];
}

const standardThreshold = 256 * 2 ** 20;

/** Bytes of the files that `writeOnnx` makes of a graph, tensors beside it included. @param name of the model's file */
export function onnxBytes(graph: Graph, name: string): number {
  const { parts, beside } = partsOf(graph, `${name}_data`, standardThreshold);
  return [...parts, ...(beside?.parts ?? [])].reduce((sum, { byteLength }) => sum + byteLength, 0);
}

/** @param data name of the file that large tensors lie in, where all take the threshold together */
function partsOf(graph: Graph, data: string, threshold: number) {
  let total = 0;
  for (const stored of graph.initializers.values()) total += stored.byteLength;
  const beside = total >= threshold ? besideIn(data) : undefined;
  const { parts } = encodeParts(toOnnx(graph, beside?.locate));
  return { parts, beside };
}

/** Gives large tensors aligned places in one file, and gathers what the file then holds. */
function besideIn(location: string): { readonly locate: Locate; readonly parts: readonly Part[] } {
  const parts: Part[] = [];
  let end = 0;
  const locate: Locate = (stored) => {
    if (stored.byteLength < smallest) return undefined;
    const offset = Math.ceil(end / alignment) * alignment;
    parts.push(new Uint8Array(offset - end), stored);
    end = offset + stored.byteLength;
    return { location, offset };
  };
  return { locate, parts };
}
