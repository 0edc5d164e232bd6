/** Sums of squares for llama.cpp, against what llama-imatrix itself collects (test/goldens). */

import { describe, expect, it } from 'vitest';
import { imatrixCases } from '../../test/imatrix-cases.ts';
import { readImatrix } from '../io/imatrix/imatrix.ts';
import type { ImatrixEntry } from '../io/imatrix/imatrix.ts';
import { collectImatrix, squaresOf } from './imatrix.ts';
import { chunksOf } from './sequences.ts';

/** llama.cpp looks GELU up in a table of float16. */
const tolerances: Readonly<Record<string, number>> = { gpt2: 1e-3 };

describe('an importance matrix', () => {
  it.each(Object.entries(imatrixCases))("of %s is llama-imatrix's", async (name, open) => {
    const { model, tokenizer, text, chunkSize, kept } = await open();
    const golden = readImatrix(`test/goldens/imatrix-${name}.gguf`);
    const chunks = chunksOf([text], tokenizer, { length: chunkSize });
    expect(chunks).toHaveLength(golden.chunks!);
    const found = await collectImatrix(model, chunks, { head: true, threads: 1 });
    const names = [...found.keys()].filter((weight) => kept.test(weight));
    expect(names.toSorted()).toEqual([...golden.entries.keys()].toSorted());
    const furthest = [...golden.entries].flatMap(([weight, { sums, counts }]) => {
      expect(found.get(weight)!.counts).toEqual(counts);
      return Array.from(sums, (sum, column) => Math.abs(found.get(weight)!.sums[column] / sum - 1));
    });
    expect(Math.max(...furthest)).toBeLessThan(tolerances[name] ?? 2e-5);
  });

  it('has the head only where it is asked for', async () => {
    const { model, tokenizer, text } = await imatrixCases.llama();
    const chunks = chunksOf([text], tokenizer, { length: 16, count: 2 });
    const found = await collectImatrix(model, chunks, { threads: 1 });
    expect(found.has('output.weight')).toBe(false);
    expect(found.get('blk.0.attn_q.weight')!.counts).toEqual(Float32Array.of(32));
  });
});

describe('what it says of a model', async () => {
  const { model } = await imatrixCases.llama();
  const golden = readImatrix('test/goldens/imatrix-llama.gguf');
  const changed = (weight: string, entry: ImatrixEntry) => ({
    entries: new Map([...golden.entries, [weight, entry]]),
  });

  it('is by our names, without weights that no token came to', () => {
    const none = { sums: new Float32Array(48), counts: Float32Array.of(0) };
    const found = squaresOf(changed('blk.1.attn_q.weight', none), model, 'a.gguf');
    expect(found.get('model.layers.0.self_attn.q_proj')!.tokens).toBe(240);
    expect(found.get('lm_head')!.squares).toHaveLength(48);
    expect(found.has('model.layers.1.self_attn.q_proj')).toBe(false);
    expect(found.size).toBe(21);
  });

  it.each<readonly [string, ImatrixEntry, string]>([
    ['other widths', { sums: new Float32Array(64), counts: Float32Array.of(1) }, 'found: 64'],
    ['experts', { sums: new Float32Array(96), counts: Float32Array.of(1, 1) }, '48, of 2 experts'],
  ])('is refused with %s', (_, entry, said) => {
    const read = () => squaresOf(changed('blk.1.attn_q.weight', entry), model, 'a.gguf');
    expect(read).toThrow('the importance of "blk.1.attn_q.weight" is of another model');
    expect(read).toThrow(said);
  });

  it('is refused where no weight is one of its own', () => {
    const entries = new Map([
      ['h.0.attn.weight', { sums: new Float32Array(48), counts: Float32Array.of(1) }],
    ]);
    expect(() => squaresOf({ entries }, model, 'a.gguf')).toThrow('h.0.attn.weight');
  });
});
