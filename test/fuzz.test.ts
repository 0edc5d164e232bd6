/**
 * 16,000 files changed at random, through every reader: whatever comes in, there is an answer or a LapidaryError, soon
 * and without memory for what a file only claims. scripts/fuzz/run.ts reads a million.
 */

import { afterAll, beforeAll, expect, it } from 'vitest';
import { fuzz } from '../scripts/fuzz/fuzz.ts';
import type { Reader } from '../scripts/fuzz/readers.ts';
import { readers } from '../scripts/fuzz/readers.ts';
import { scratchFolder } from './command-line.ts';

const scratch = scratchFolder();
const seed = 1;
const cases = 16_000;
let all: Reader[] = [];
beforeAll(async () => {
  process.env.LAPIDARY_LIBRARY_SECONDS = '0.5';
  process.env.LAPIDARY_LIBRARY_MIB = '512';
  all = await readers(scratch.path('files'));
});
afterAll(() => scratch.remove());

it('files changed at random are read or refused', async () => {
  const counts: Record<string, { read: number; refused: number }> = {};
  for (const reader of all) {
    const { failures, ...count } = await fuzz(reader, { seed, count: Math.ceil(cases / all.length) });
    expect(failures).toEqual([]);
    counts[reader.name] = count;
  }
  // Neither side may be empty: changes reach the rules, and harmless ones pass.
  for (const [name, { read, refused }] of Object.entries(counts)) {
    if (name !== 'model, model.safetensors') expect(read, name).toBeGreaterThan(5);
    if (!name.startsWith('journal')) expect(refused, name).toBeGreaterThan(50);
  }
});
