/** Writes GGUF version 3: the header, then one tensor in memory at a time; whole or not at all. */

import { setImmediate } from 'node:timers/promises';
import { LapidaryError } from '../../base/errors.ts';
import { elementCount } from '../../base/tensor.ts';
import { openOutputFile } from '../output.ts';
import type { GgufTensor } from './read.ts';
import type { GgufElement, GgufMetadata, GgufValue } from './types.ts';
import { aligned, arrayId, defaultAlignment, elementBytes, elementIds, maxNameBytes } from './types.ts';

/** A tensor to be written; `bytes` is called once, when its turn comes. */
export type WritableTensor = Omit<GgufTensor, 'offset' | 'range'>;

/**
 * @param metadata without general.alignment, which is 32
 * @param tensors in the order in which they are written
 * @throws LapidaryError where the disk does not take it, or the format cannot say it; Error where a tensor gives other
 *   bytes than it said
 */
export async function writeGguf(
  path: string,
  metadata: GgufMetadata,
  tensors: ReadonlyMap<string, WritableTensor>,
): Promise<void> {
  const header = headerBytes(metadata, tensors);
  const file = openOutputFile(path);
  try {
    file.write(header);
    file.write(padding(header.byteLength));
    for (const [name, tensor] of tensors) {
      const bytes = tensor.bytes();
      if (bytes.byteLength !== tensor.byteLength) {
        throw new Error(`tensor ${name} said ${tensor.byteLength} bytes and gave ${bytes.byteLength}`);
      }
      file.write(bytes);
      file.write(padding(bytes.byteLength));
      // Lets Ctrl-C and progress through between tensors.
      await setImmediate();
    }
    file.commit();
  } finally {
    file.abandon();
  }
}

/** Bytes of the file that `writeGguf` makes of these. */
export function ggufBytes(metadata: GgufMetadata, tensors: ReadonlyMap<string, WritableTensor>): number {
  const sizes = [headerBytes(metadata, tensors), ...tensors.values()].map(({ byteLength }) => byteLength);
  return sizes.reduce((sum, size) => sum + aligned(size, defaultAlignment), 0);
}

function padding(length: number): Uint8Array {
  return new Uint8Array(aligned(length, defaultAlignment) - length);
}

function headerBytes(metadata: GgufMetadata, tensors: ReadonlyMap<string, WritableTensor>): Uint8Array {
  const parts: Uint8Array[] = [Buffer.from('GGUF'), u32(3), u64(tensors.size), u64(metadata.size)];
  for (const [key, value] of metadata) {
    if (key === 'general.alignment') throw new Error('the alignment is not a choice');
    parts.push(text(key), ...encoded(value));
  }
  let offset = 0;
  for (const [name, tensor] of tensors) {
    check(name, tensor);
    const { type, shape, byteLength } = tensor;
    parts.push(text(name), u32(shape.length), ...shape.toReversed().map(u64), u32(type.id), u64(offset));
    offset += aligned(byteLength, defaultAlignment);
  }
  return Buffer.concat(parts);
}

function check(name: string, { type, shape, byteLength }: WritableTensor): void {
  if (Buffer.byteLength(name) >= maxNameBytes || shape.length < 1 || shape.length > 4) {
    throw new LapidaryError({
      what: `GGUF cannot hold tensor "${name}"`,
      expected: `a name of less than ${maxNameBytes} bytes, 1 to 4 dimensions`,
      found: `${Buffer.byteLength(name)} bytes, [${shape.join(', ')}]`,
    });
  }
  if (shape.at(-1)! % type.weights !== 0) {
    throw new LapidaryError({
      what: `tensor "${name}": its rows are no whole number of ${type.name} blocks`,
      expected: `a multiple of ${type.weights} columns`,
      found: `[${shape.join(', ')}]`,
    });
  }
  const expected = (elementCount(shape) / type.weights) * type.bytes;
  if (byteLength !== expected)
    throw new Error(
      `tensor ${name}: ${type.name} [${shape.join(', ')}] is ${expected} bytes, not ${byteLength}`,
    );
}

function encoded(value: GgufValue): Uint8Array[] {
  if (value.type !== 'array') return [u32(elementIds[value.type]), scalar(value.type, value.value)];
  const { of, values } = value;
  const header = [u32(arrayId), u32(elementIds[of]), u64(values.length)];
  if (of === 'string') return [...header, Buffer.concat(values.map(text))];
  const bytes = Buffer.alloc(values.length * elementBytes[of]);
  for (let i = 0; i < values.length; i++) bytes.set(scalar(of, values[i]), i * elementBytes[of]);
  return [...header, bytes];
}

function scalar(type: GgufElement, value: number | bigint | boolean | string): Uint8Array {
  if (typeof value === 'string') return text(value);
  if (typeof value === 'boolean') return Uint8Array.of(Number(value));
  const view = new DataView(new ArrayBuffer(elementBytes[type]));
  if (typeof value === 'bigint') {
    if (type === 'int64') view.setBigInt64(0, value, true);
    else view.setBigUint64(0, value, true);
  } else numberWriters[type as keyof typeof numberWriters](view, value);
  return new Uint8Array(view.buffer);
}

const numberWriters = {
  uint8: (view: DataView, value: number) => view.setUint8(0, value),
  int8: (view: DataView, value: number) => view.setInt8(0, value),
  uint16: (view: DataView, value: number) => view.setUint16(0, value, true),
  int16: (view: DataView, value: number) => view.setInt16(0, value, true),
  uint32: (view: DataView, value: number) => view.setUint32(0, value, true),
  int32: (view: DataView, value: number) => view.setInt32(0, value, true),
  float32: (view: DataView, value: number) => view.setFloat32(0, value, true),
  float64: (view: DataView, value: number) => view.setFloat64(0, value, true),
};

function u32(value: number): Uint8Array {
  return scalar('uint32', value);
}

function u64(value: number): Uint8Array {
  return scalar('uint64', BigInt(value));
}

function text(value: string): Uint8Array {
  const bytes = Buffer.from(value);
  return Buffer.concat([u64(bytes.byteLength), bytes]);
}
