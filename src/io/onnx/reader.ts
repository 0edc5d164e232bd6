/**
 * Reads an ONNX model into plain objects. Tensors stay at rest in the file; nothing that the file says about sizes is
 * believed before it is compared with what is there. Attributes that hold tensors or graphs are left out.
 */

import { LapidaryError } from '../../base/errors.ts';
import type { DType, Stored } from '../../base/tensor.ts';
import { byteLength } from '../../base/tensor.ts';
import { readRange, withFile, withKnownFile } from '../range.ts';
import type { OnnxAttribute, OnnxExternal, OnnxModel, OnnxNode, OnnxTensor, OnnxValue } from './model.ts';
import { typeCode } from './model.ts';
import type { Field, Source, Span } from './protobuf.ts';
import { bytesOf, damaged, fieldsOf, sourceOf, varintsOf } from './protobuf.ts';

const typeOf = new Map(Object.entries(typeCode).map(([dtype, code]) => [code, dtype as DType]));
const text = new TextDecoder();
const blockSize = 2 ** 18;
/** Most axes that a tensor may have. */
const highestRank = 64;
/** Longest name, type or path that is taken for one. */
const longestText = 2 ** 16;

/**
 * Reads an .onnx file; its tensors are read from it when asked for.
 * @throws LapidaryError on a file that is not ONNX, or is damaged
 */
export function readOnnx(path: string): OnnxModel {
  return parse(fileSource(path));
}

/** A file that is read in blocks; the last one is kept, since the parts of a message lie together. */
function fileSource(path: string): Source {
  const known = withFile(path, 'ONNX', (_, __, identity) => identity);
  const { size } = known;
  const readAt = (offset: number, length: number) =>
    withKnownFile(known, 'ONNX', (file) => readRange(file, offset, length, path));
  let block = new Uint8Array(0);
  let start = 0;
  const read = (offset: number, length: number): Uint8Array => {
    if (length >= blockSize) return readAt(offset, length);
    if (offset < start || offset + length > start + block.length) {
      block = readAt(offset, Math.min(blockSize, size - offset));
      start = offset;
    }
    return block.subarray(offset - start, offset - start + length);
  };
  return { name: path, size, read };
}

/** Reads a model from memory. */
export function parseOnnx(bytes: Uint8Array, name = 'model'): OnnxModel {
  return parse(sourceOf(bytes, name));
}

function parse(source: Source): OnnxModel {
  let graph: Span | undefined;
  let irVersion = 0;
  let producer = '';
  const opsets: { domain: string; version: number }[] = [];
  for (const field of fieldsOf({ source, start: 0, end: source.size })) {
    if (field.number === 1) irVersion = integer(field, source);
    else if (field.number === 2) producer = string(field, source);
    else if (field.number === 7) graph = span(field, source);
    else if (field.number === 8) opsets.push(opset(span(field, source)));
  }
  if (!graph || irVersion <= 0) throw damaged(source, 0, 'it has no graph');
  return { producer, irVersion, opsets, ...graphOf(graph) };
}

function opset(message: Span) {
  let domain = '';
  let version = 0;
  for (const field of fieldsOf(message)) {
    if (field.number === 1) domain = string(field, message.source);
    else if (field.number === 2) version = integer(field, message.source);
  }
  return { domain, version };
}

function graphOf(
  message: Span,
): Pick<OnnxModel, 'graphName' | 'nodes' | 'initializers' | 'inputs' | 'outputs'> {
  const { source } = message;
  let graphName = '';
  const nodes: OnnxNode[] = [];
  const initializers: OnnxTensor[] = [];
  const inputs: OnnxValue[] = [];
  const outputs: OnnxValue[] = [];
  for (const field of fieldsOf(message)) {
    if (field.number === 1) nodes.push(nodeOf(span(field, source)));
    else if (field.number === 2) graphName = string(field, source);
    else if (field.number === 5) initializers.push(tensorOf(span(field, source)));
    else if (field.number === 11) inputs.push(valueInfoOf(span(field, source)));
    else if (field.number === 12) outputs.push(valueInfoOf(span(field, source)));
  }
  const names = new Set<string>();
  for (const { name } of initializers) {
    if (names.has(name)) throw damaged(source, message.start, `two tensors named "${name}"`);
    names.add(name);
  }
  return { graphName, nodes, initializers, inputs, outputs };
}

function nodeOf(message: Span): OnnxNode {
  const { source } = message;
  const node = { name: '', domain: '', type: '' };
  const inputs: string[] = [];
  const outputs: string[] = [];
  const attributes: [string, OnnxAttribute][] = [];
  for (const field of fieldsOf(message)) {
    if (field.number === 1) inputs.push(string(field, source));
    else if (field.number === 2) outputs.push(string(field, source));
    else if (field.number === 3) node.name = string(field, source);
    else if (field.number === 4) node.type = string(field, source);
    else if (field.number === 7) node.domain = string(field, source);
    else if (field.number === 5) {
      const [name, value] = attributeOf(span(field, source));
      if (value !== undefined) attributes.push([name, value]);
    }
  }
  return { ...node, inputs, outputs, attributes: Object.fromEntries(attributes) };
}

function attributeOf(message: Span): [string, OnnxAttribute | undefined] {
  const { source } = message;
  let name = '';
  let value: OnnxAttribute | undefined;
  const integers: number[] = [];
  let isList = false;
  for (const field of fieldsOf(message)) {
    if (field.number === 1) name = string(field, source);
    else if (field.number === 2) value = { float: float(field, source) };
    else if (field.number === 3) value = integer(field, source);
    else if (field.number === 4) value = string(field, source);
    else if (field.number === 8) for (const item of integersOf(field)) integers.push(item);
    else if (field.number === 20) isList = field.value === 7n;
  }
  return [name, isList ? integers : value];
}

function tensorOf(message: Span): OnnxTensor {
  const { source } = message;
  let name = '';
  let dtype: DType | undefined;
  let raw: Span | undefined;
  let external = false;
  const shape: number[] = [];
  const entries = new Map<string, string>();
  const typed: Field[] = [];
  for (const field of fieldsOf(message)) {
    if (field.number === 1) for (const size of integersOf(field)) shape.push(size);
    else if (field.number === 2) dtype = typeFrom(field, source);
    else if (field.number === 8) name = string(field, source);
    else if (field.number === 9) raw = span(field, source);
    else if (field.number === 13) entries.set(...entryOf(span(field, source)));
    else if (field.number === 14) external = field.value === 1n;
    else if (field.number === 4 || field.number === 5 || field.number === 7 || field.number === 10)
      typed.push(field);
  }
  if (!dtype) throw damaged(source, message.start, `the tensor "${name}" has no type`);
  const expected = checkedLength(dtype, shape, message, name);
  if (external) return { name, dtype, shape, data: externalOf(entries, expected, message, name) };
  const data = raw ? rawOf(raw, dtype, shape) : typedOf(typed, dtype, shape, message);
  if (data.byteLength !== expected) {
    throw damaged(source, message.start, `the tensor "${name}" has ${data.byteLength} bytes for ${expected}`);
  }
  return { name, dtype, shape, data };
}

function checkedLength(dtype: DType, shape: readonly number[], message: Span, name: string): number {
  const bytes = byteLength(dtype, shape);
  if (shape.length > highestRank || shape.some((size) => size < 0) || !Number.isSafeInteger(bytes)) {
    throw damaged(message.source, message.start, `the tensor "${name}" has the shape [${shape.join(', ')}]`);
  }
  return bytes;
}

function rawOf(raw: Span, dtype: DType, shape: readonly number[]): Stored {
  return { dtype, shape, byteLength: raw.end - raw.start, bytes: () => bytesOf(raw) };
}

/** Values that stand in typed fields, as other exporters write small constants; made into bytes here. */
function typedOf(fields: readonly Field[], dtype: DType, shape: readonly number[], message: Span): Stored {
  const { source } = message;
  const chunks: Uint8Array[] = [];
  for (const { value, number } of fields) {
    if (number === 4 || number === 10) {
      // float_data and double_data are the little-endian bytes themselves.
      if (typeof value === 'bigint') throw damaged(source, message.start, 'a float written as an integer');
      chunks.push(bytesOf(value));
    } else {
      const list = typeof value === 'bigint' ? [value] : [...varintsOf(value)];
      const width = byteLength(dtype, [1]);
      const view = new DataView(new ArrayBuffer(list.length * width));
      for (const [i, item] of list.entries()) writeInteger(view, i * width, width, item);
      chunks.push(new Uint8Array(view.buffer));
    }
  }
  const bytes = new Uint8Array(chunks.reduce((total, chunk) => total + chunk.byteLength, 0));
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.byteLength;
  }
  return { dtype, shape, byteLength: bytes.byteLength, bytes: () => bytes };
}

function writeInteger(view: DataView, at: number, width: number, value: bigint): void {
  if (width === 8) view.setBigUint64(at, BigInt.asUintN(64, value), true);
  else if (width === 4) view.setUint32(at, Number(BigInt.asUintN(32, value)), true);
  else if (width === 2) view.setUint16(at, Number(BigInt.asUintN(16, value)), true);
  else view.setUint8(at, Number(BigInt.asUintN(8, value)));
}

function externalOf(
  entries: ReadonlyMap<string, string>,
  expected: number,
  message: Span,
  name: string,
): OnnxExternal {
  const location = entries.get('location') ?? '';
  const offset = Number(entries.get('offset') ?? 0);
  const length = Number(entries.get('length') ?? expected);
  const fail = (what: string) => damaged(message.source, message.start, `the tensor "${name}" ${what}`);
  if (!isInside(location)) throw fail(`lies outside of the model's folder, in "${location}"`);
  if (!Number.isSafeInteger(offset) || offset < 0) throw fail(`lies at ${entries.get('offset')}`);
  if (length !== expected) throw fail(`has ${entries.get('length')} bytes for ${expected}`);
  return { location, offset, length };
}

/** A relative path that stays below its folder. */
function isInside(location: string): boolean {
  if (location === '' || /^[/\\]|^[A-Za-z]:|\0/.test(location)) return false;
  return !location.split(/[/\\]/).includes('..');
}

function entryOf(message: Span): [string, string] {
  let key = '';
  let value = '';
  for (const field of fieldsOf(message)) {
    if (field.number === 1) key = string(field, message.source);
    else if (field.number === 2) value = string(field, message.source);
  }
  return [key, value];
}

function valueInfoOf(message: Span): OnnxValue {
  const { source } = message;
  let name = '';
  let tensor: Span | undefined;
  for (const field of fieldsOf(message)) {
    if (field.number === 1) name = string(field, source);
    else if (field.number === 2) {
      for (const inner of fieldsOf(span(field, source))) if (inner.number === 1) tensor = span(inner, source);
    }
  }
  if (!tensor) throw damaged(source, message.start, `"${name}" is not a tensor`);
  let dtype: DType | undefined;
  const shape: (number | string)[] = [];
  for (const field of fieldsOf(tensor)) {
    if (field.number === 1) dtype = typeFrom(field, source);
    else if (field.number === 2) {
      for (const dim of fieldsOf(span(field, source)))
        if (dim.number === 1) shape.push(dimOf(span(dim, source)));
    }
  }
  if (!dtype) throw damaged(source, message.start, `"${name}" has no type`);
  return { name, dtype, shape };
}

/** A size, or its name; '' where the file says neither. */
function dimOf(message: Span): number | string {
  let dim: number | string = '';
  for (const field of fieldsOf(message)) {
    if (field.number === 1) dim = integer(field, message.source);
    else if (field.number === 2) dim = string(field, message.source);
  }
  return dim;
}

function typeFrom(field: Field, source: Source): DType {
  const dtype = typeOf.get(integer(field, source));
  if (!dtype)
    throw new LapidaryError({
      what: `ONNX element type ${field.value} is not supported`,
      where: source.name,
    });
  return dtype;
}

function span({ value, number }: Field, source: Source): Span {
  if (typeof value === 'bigint') throw damaged(source, 0, `field ${number} is an integer`);
  return value;
}

function string(field: Field, source: Source): string {
  const content = span(field, source);
  if (content.end - content.start > longestText)
    throw damaged(source, content.start, 'a name of more than 64 KiB');
  return text.decode(bytesOf(content));
}

function integer({ value, number }: Field, source: Source): number {
  if (typeof value !== 'bigint') throw damaged(source, value.start, `field ${number} is not an integer`);
  const signed = BigInt.asIntN(64, value);
  return Number(signed);
}

function integersOf({ value }: Field): number[] {
  const list = typeof value === 'bigint' ? [value] : [...varintsOf(value)];
  return list.map((item) => Number(BigInt.asIntN(64, item)));
}

function float({ value, wire }: Field, source: Source): number {
  if (typeof value === 'bigint' || wire !== 5)
    throw damaged(source, 0, 'a float attribute is not four bytes');
  const bytes = bytesOf(value);
  return new DataView(bytes.buffer, bytes.byteOffset, 4).getFloat32(0, true);
}
