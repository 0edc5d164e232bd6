/**
 * ONNX models as protobuf. A message is a list of parts whose lengths are known before their bytes: tensors stay at
 * rest until they are written, so a file is written with one tensor in memory at a time.
 */

import type { Stored } from '../../base/tensor.ts';
import { openOutputFile } from '../output.ts';
import type { OnnxAttribute, OnnxModel, OnnxNode, OnnxTensor, OnnxValue } from './model.ts';
import { attributeCode, typeCode } from './model.ts';

/** Bytes, or a tensor whose bytes come in their place. */
export type Part = Uint8Array | Stored;

interface Message {
  readonly parts: readonly Part[];
  readonly byteLength: number;
}

const text = new TextEncoder();

function varint(value: number | bigint): Uint8Array {
  let rest = BigInt.asUintN(64, BigInt(value));
  const bytes: number[] = [];
  while (rest >= 128n) {
    bytes.push(Number(rest & 127n) | 128);
    rest >>= 7n;
  }
  bytes.push(Number(rest));
  return Uint8Array.from(bytes);
}

/** A message from its fields, in order. */
function message(...fields: readonly Message[]): Message {
  const parts = fields.flatMap((field) => field.parts);
  return { parts, byteLength: parts.reduce((total, part) => total + part.byteLength, 0) };
}

const bytes = (...parts: readonly Part[]): Message => ({
  parts,
  byteLength: parts.reduce((total, part) => total + part.byteLength, 0),
});

const integer = (field: number, value: number | bigint): Message => bytes(varint(field << 3), varint(value));
const nested = (field: number, content: Message): Message =>
  message(bytes(varint((field << 3) | 2), varint(content.byteLength)), content);
const string = (field: number, value: string): Message => nested(field, bytes(text.encode(value)));

function float(field: number, value: number): Message {
  const view = new DataView(new ArrayBuffer(4));
  view.setFloat32(0, value, true);
  return bytes(varint((field << 3) | 5), new Uint8Array(view.buffer));
}

/** One flat copy, for messages without large tensors. */
function flat(content: Message): Message {
  return bytes(joinParts(content.parts, content.byteLength));
}

function attribute(name: string, value: OnnxAttribute): Message {
  const type = (code: number) => integer(20, code);
  if (typeof value === 'number') return message(string(1, name), integer(3, value), type(attributeCode.int));
  if (typeof value === 'string')
    return message(string(1, name), string(4, value), type(attributeCode.string));
  if ('float' in value) return message(string(1, name), float(2, value.float), type(attributeCode.float));
  return message(string(1, name), ...value.map((item) => integer(8, item)), type(attributeCode.ints));
}

function node(value: OnnxNode): Message {
  return flat(
    message(
      ...value.inputs.map((input) => string(1, input)),
      ...value.outputs.map((output) => string(2, output)),
      string(3, value.name),
      string(4, value.type),
      ...Object.entries(value.attributes).map(([name, item]) => nested(5, attribute(name, item))),
      string(7, value.domain),
    ),
  );
}

function tensor({ name, dtype, shape, data }: OnnxTensor): Message {
  const head = [...shape.map((size) => integer(1, size)), integer(2, typeCode[dtype]), string(8, name)];
  if (!('location' in data)) return message(flat(message(...head)), nested(9, bytes(data)));
  const entry = (key: string, value: string | number) =>
    nested(13, message(string(1, key), string(2, String(value))));
  const entries = [
    entry('location', data.location),
    entry('offset', data.offset),
    entry('length', data.length),
  ];
  return flat(message(...head, ...entries, integer(14, 1)));
}

function value({ name, dtype, shape }: OnnxValue): Message {
  const dims = shape.map((dim) => nested(1, typeof dim === 'number' ? integer(1, dim) : string(2, dim)));
  const type = message(integer(1, typeCode[dtype]), nested(2, message(...dims)));
  return flat(message(string(1, name), nested(2, nested(1, type))));
}

/** The model's bytes as parts in order, and how many they are together. */
export function encodeParts(model: OnnxModel): {
  readonly parts: readonly Part[];
  readonly byteLength: number;
} {
  const graph = message(
    ...model.nodes.map((item) => nested(1, node(item))),
    string(2, model.graphName),
    ...model.initializers.map((item) => nested(5, tensor(item))),
    ...model.inputs.map((item) => nested(11, value(item))),
    ...model.outputs.map((item) => nested(12, value(item))),
  );
  const opset = ({ domain, version }: OnnxModel['opsets'][number]) =>
    nested(8, message(string(1, domain), integer(2, version)));
  return message(
    integer(1, model.irVersion),
    string(2, model.producer),
    nested(7, graph),
    ...model.opsets.map(opset),
  );
}

/** All parts in one array. */
export function joinParts(parts: readonly Part[], byteLength: number): Uint8Array {
  const joined = new Uint8Array(byteLength);
  let at = 0;
  for (const part of parts) {
    const data = part instanceof Uint8Array ? part : part.bytes();
    joined.set(data, at);
    at += part.byteLength;
  }
  return joined;
}

/** Writes the parts as a file, whole or not at all. @throws LapidaryError (system) where the disk does not take it */
export function writeParts(path: string, parts: readonly Part[]): void {
  const file = openOutputFile(path);
  try {
    for (const part of parts) file.write(part instanceof Uint8Array ? part : part.bytes());
    file.commit();
  } finally {
    file.abandon();
  }
}
