/**
 * Headers and indexes changed at random: whatever comes in, opening answers with a checkpoint or a LapidaryError, at
 * once and without taking memory for sizes that the file only claims.
 */

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LapidaryError } from '../base/errors.ts';
import { type Random, random } from '../base/random.ts';
import { stored } from '../base/tensor.ts';
import { openCheckpoint } from './checkpoint.ts';
import { openSafetensors } from './safetensors/read.ts';
import { writeSafetensors, writeSharded } from './safetensors/write.ts';

const root = mkdtempSync(join(tmpdir(), 'lapidary-mutation-'));
afterAll(() => rmSync(root, { recursive: true }));

const tensors = new Map([
  ['model.embed_tokens.weight', stored('float32', [16, 4], new Float32Array(64))],
  ['model.norm.weight', stored('bfloat16', [4], new Uint16Array(4))],
  ['lm_head.weight', stored('float16', [16, 4], new Uint16Array(64))],
  ['steps', stored('int64', [], new BigInt64Array(1))],
]);

/** Pieces that are likely to hit a rule when they replace a number, a name or a mark. */
const pieces = [
  '-1',
  '0',
  '1',
  '64',
  '1e9',
  '1e400',
  '9007199254740993',
  '18446744073709551615',
  '0.5',
  'null',
  'true',
  '""',
  '"F32"',
  '"BF16"',
  '"U64"',
  '"F4"',
  '"F99"',
  '[]',
  '{}',
  '[[[[',
  '}',
  ',',
  '\\ud800',
  '\\u0000',
  '"__proto__":1,',
  '"dtype"',
  '"shape"',
  '"data_offsets"',
  '"steps"',
  '"__metadata__"',
  '../',
  '/',
  '\n',
  '\0',
  'ÿ',
];

/** One to three changes: a bit, a byte, a run removed, doubled or moved, a number or text replaced, or the end cut off. */
function mutate(source: Uint8Array, numbers: Random): Buffer {
  let bytes: Buffer = Buffer.from(source);
  for (let left = 1 + numbers.integer(3); left > 0; left--) bytes = changed(bytes, numbers);
  return bytes;
}

function changed(bytes: Buffer, numbers: Random): Buffer {
  const at = numbers.integer(bytes.length + 1);
  const end = Math.min(bytes.length, at + 1 + numbers.integer(24));
  const piece = Buffer.from(pieces[numbers.integer(pieces.length)], 'latin1');
  const join3 = (middle: Uint8Array, rest: number) =>
    Buffer.concat([bytes.subarray(0, at), middle, bytes.subarray(rest)]);
  switch (numbers.integer(8)) {
    case 0: {
      const copy = Buffer.from(bytes);
      if (at < copy.length) copy[at] ^= 1 << numbers.integer(8);
      return copy;
    }
    case 1: {
      const copy = Buffer.from(bytes);
      if (at < copy.length) copy[at] = numbers.integer(256);
      return copy;
    }
    case 2:
      return join3(Buffer.alloc(0), end);
    case 3:
      return join3(bytes.subarray(at, end), at);
    case 4:
      return join3(piece, end);
    case 5:
      return join3(piece, at);
    case 6:
      return replaceToken(bytes, piece, numbers);
    default:
      return bytes.subarray(0, at);
  }
}

/** Replaces one number or string of the JSON. */
function replaceToken(bytes: Buffer, piece: Buffer, numbers: Random): Buffer {
  const tokens = [...bytes.toString('latin1').matchAll(/"[^"]*"|\d+/g)];
  if (tokens.length === 0) return bytes;
  const token = tokens[numbers.integer(tokens.length)];
  const end = token.index + token[0].length;
  return Buffer.concat([bytes.subarray(0, token.index), piece, bytes.subarray(end)]);
}

/** Most bytes of array buffers that a case may leave allocated; the files are a few hundred bytes long. */
const memoryBound = 32 * 2 ** 20;

function read(tensor: { byteLength: number; bytes(): Uint8Array }): void {
  expect(tensor.bytes().byteLength).toBe(tensor.byteLength);
}

describe('safetensors changed at random', () => {
  let whole: Buffer;
  let headerEnd = 0;
  beforeAll(async () => {
    const path = join(root, 'whole.safetensors');
    await writeSafetensors(path, tensors);
    whole = readFileSync(path);
    headerEnd = 8 + Number(whole.readBigUInt64LE());
  });

  /** With `honest`, the length before the header is made right again, so that the change reaches the rules behind it. */
  function files(seed: number, cases: number, honest: boolean): { opened: number; refused: number } {
    const numbers = random(seed);
    const path = join(root, 'changed.safetensors');
    let opened = 0;
    let refused = 0;
    for (let i = 0; i < cases; i++) {
      const header = mutate(whole.subarray(honest ? 8 : 0, headerEnd), numbers);
      const length = Buffer.alloc(honest ? 8 : 0);
      if (honest) length.writeBigUInt64LE(BigInt(header.length));
      writeFileSync(path, Buffer.concat([length, header, whole.subarray(headerEnd)]));
      try {
        for (const tensor of openSafetensors(path).tensors.values()) read(tensor);
        opened++;
      } catch (error) {
        if (!(error instanceof LapidaryError)) throw new Error(`case ${i} of seed ${seed}`, { cause: error });
        refused++;
      }
    }
    return { opened, refused };
  }

  it('opens or is refused in each of 2,400 cases, memory bounded', () => {
    const before = process.memoryUsage().arrayBuffers;
    const honest = files(1, 1600, true);
    const raw = files(2, 800, false);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(memoryBound);
    expect(honest.opened + honest.refused + raw.opened + raw.refused).toBe(2400);
    // Neither side may be empty: the changes reach the rules, and harmless ones pass.
    expect(honest.refused).toBeGreaterThan(800);
    expect(honest.opened).toBeGreaterThan(20);
    expect(raw.refused).toBeGreaterThan(400);
  });

  it('takes no memory for what a header claims', () => {
    const claims = [2 ** 31, 2 ** 40, 2 ** 53 - 1].flatMap((size) => [
      { a: { dtype: 'F32', shape: [size], data_offsets: [0, size * 4] } },
      { a: { dtype: 'U8', shape: [size, size], data_offsets: [0, size] } },
      { a: { dtype: 'F64', shape: [0, size, size], data_offsets: [0, 0] } },
    ]);
    const path = join(root, 'claim.safetensors');
    const before = process.memoryUsage().arrayBuffers;
    let most = before;
    for (const claim of claims) {
      const header = Buffer.from(JSON.stringify(claim));
      for (const length of [header.length, 99_000_000, 2 ** 40]) {
        const bytes = Buffer.alloc(8);
        bytes.writeBigUInt64LE(BigInt(length));
        writeFileSync(path, Buffer.concat([bytes, header]));
        try {
          for (const tensor of openSafetensors(path).tensors.values()) read(tensor);
        } catch (error) {
          expect(error).toBeInstanceOf(LapidaryError);
        }
        most = Math.max(most, process.memoryUsage().arrayBuffers);
      }
    }
    expect(most - before).toBeLessThan(memoryBound);
  });
});

describe('an index changed at random', () => {
  it('opens or is refused in each of 600 cases', async () => {
    const path = join(root, 'sharded');
    mkdirSync(path);
    writeFileSync(join(path, 'config.json'), '{}');
    const indexName = (await writeSharded(path, tensors, 128)).at(-1)!;
    const whole = readFileSync(join(path, indexName));
    const numbers = random(3);
    let refused = 0;
    for (let i = 0; i < 600; i++) {
      writeFileSync(join(path, indexName), mutate(whole, numbers));
      try {
        for (const tensor of (await openCheckpoint(path)).tensors.values()) read(tensor);
      } catch (error) {
        if (!(error instanceof LapidaryError)) throw new Error(`case ${i}`, { cause: error });
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(200);
    expect(refused).toBeLessThan(600);
  });
});
