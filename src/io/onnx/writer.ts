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

/** Bytes as characters up to 255, which join faster than arrays do; or a tensor. */
type Piece = string | Stored;

const beyondAscii = /[^\0-\x7f]/;

const length = (pieces: readonly Piece[]): number =>
  pieces.reduce((sum, piece) => sum + (typeof piece === 'string' ? piece.length : piece.byteLength), 0);

function varint(value: number | bigint): string {
  if (typeof value === 'number' && value >= 0 && value < 128) return String.fromCharCode(value);
  let rest = BigInt.asUintN(64, BigInt(value));
  const bytes: number[] = [];
  while (rest >= 128n) {
    bytes.push(Number(rest & 127n) | 128);
    rest >>= 7n;
  }
  return String.fromCharCode(...bytes, Number(rest));
}

const integer = (field: number, value: number | bigint): string => varint(field << 3) + varint(value);
const nested = (field: number, content: string): string =>
  varint((field << 3) | 2) + varint(content.length) + content;
const around = (field: number, content: readonly Piece[]): readonly Piece[] => [
  varint((field << 3) | 2) + varint(length(content)),
  ...content,
];
const string = (field: number, value: string): string =>
  nested(field, beyondAscii.test(value) ? Buffer.from(value).toString('latin1') : value);

function float(field: number, value: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return varint((field << 3) | 5) + bytes.toString('latin1');
}

function attribute(name: string, value: OnnxAttribute): string {
  const type = (code: number) => integer(20, code);
  if (typeof value === 'number') return string(1, name) + integer(3, value) + type(attributeCode.int);
  if (typeof value === 'string') return string(1, name) + string(4, value) + type(attributeCode.string);
  if ('float' in value) return string(1, name) + float(2, value.float) + type(attributeCode.float);
  return string(1, name) + value.map((item) => integer(8, item)).join('') + type(attributeCode.ints);
}

function node({ inputs, outputs, name, type, attributes, domain }: OnnxNode): string {
  return [
    ...inputs.map((input) => string(1, input)),
    ...outputs.map((output) => string(2, output)),
    string(3, name),
    string(4, type),
    ...Object.entries(attributes).map(([key, item]) => nested(5, attribute(key, item))),
    string(7, domain),
  ].join('');
}

function tensor({ name, dtype, shape, data }: OnnxTensor): readonly Piece[] {
  const dims = shape.map((size) => integer(1, size)).join('');
  const head = dims + integer(2, typeCode[dtype]) + string(8, name);
  if (!('location' in data)) return [head, ...around(9, [data])];
  const entry = (key: string, value: string | number) => nested(13, string(1, key) + string(2, `${value}`));
  const place =
    entry('location', data.location) + entry('offset', data.offset) + entry('length', data.length);
  return [head + place + integer(14, 1)];
}

function value({ name, dtype, shape }: OnnxValue): string {
  const dims = shape.map((dim) => nested(1, typeof dim === 'number' ? integer(1, dim) : string(2, dim)));
  const type = integer(1, typeCode[dtype]) + nested(2, dims.join(''));
  return string(1, name) + nested(2, nested(1, type));
}

/** The model's bytes as parts in order, and how many they are together. */
export function encodeParts(model: OnnxModel): {
  readonly parts: readonly Part[];
  readonly byteLength: number;
} {
  const graph = [
    ...model.nodes.map((item) => nested(1, node(item))),
    string(2, model.graphName),
    ...model.initializers.flatMap((item) => around(5, tensor(item))),
    ...model.inputs.map((item) => nested(11, value(item))),
    ...model.outputs.map((item) => nested(12, value(item))),
  ];
  const opset = ({ domain, version }: OnnxModel['opsets'][number]) =>
    nested(8, string(1, domain) + integer(2, version));
  const pieces = [
    integer(1, model.irVersion),
    string(2, model.producer),
    ...around(7, graph),
    ...model.opsets.map(opset),
  ];
  return { parts: joined(pieces), byteLength: length(pieces) };
}

/** What stands between two tensors as one array. */
function joined(pieces: readonly Piece[]): readonly Part[] {
  const parts: Part[] = [];
  let before: string[] = [];
  const flush = () => {
    if (before.length > 0) parts.push(Buffer.from(before.join(''), 'latin1'));
    before = [];
  };
  for (const piece of pieces) {
    if (typeof piece === 'string') before.push(piece);
    else {
      flush();
      parts.push(piece);
    }
  }
  flush();
  return parts;
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
