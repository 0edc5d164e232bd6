/** Sizes that a header only claims: no memory is taken for them. Headers changed at random are in test/fuzz.test.ts. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { LapidaryError } from '../../base/errors.ts';
import { openSafetensors } from './read.ts';

const root = mkdtempSync(join(tmpdir(), 'lapidary-claims-'));
afterAll(() => rmSync(root, { recursive: true }));

/** Most bytes of array buffers that a case may leave allocated; the files are a few hundred bytes long. */
const memoryBound = 32 * 2 ** 20;

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
        for (const tensor of openSafetensors(path).tensors.values())
          expect(tensor.bytes().byteLength).toBe(tensor.byteLength);
      } catch (error) {
        expect(error).toBeInstanceOf(LapidaryError);
      }
      most = Math.max(most, process.memoryUsage().arrayBuffers);
    }
  }
  expect(most - before).toBeLessThan(memoryBound);
});
