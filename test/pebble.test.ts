/** The model that ships with the package, and the scripts that made it. */

import { existsSync, readFileSync, statSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { learnBytePairs } from '../scripts/pebble/bpe.ts';
import { documentsOf, rows } from '../scripts/pebble/rows.ts';
import { documentSequences } from '../src/calibrate/sequences.ts';
import { modelScorer } from '../src/evaluate/blocks.ts';
import { evaluate } from '../src/evaluate/evaluate.ts';
import { openCheckpoint } from '../src/io/checkpoint.ts';
import { loadModel } from '../src/models/index.ts';
import { loadTokenizer } from '../src/tokenizer/tokenizer.ts';

const folder = 'models/pebble';
const tinyStories = '../shared/data/tinystories/tiny.utf8';

describe('pebble', () => {
  it('takes at most 12 MB', () => {
    expect(statSync(`${folder}/model.safetensors`).size).toBeLessThan(12e6);
  });

  it('encodes any text and gives it back', async () => {
    const tokenizer = loadTokenizer((await openCheckpoint(folder)).files);
    for (const text of ["Lily's cat  ran.\n\nIt was 7.", 'naïve 日本 🎉', '\u0000\u007f\t', ' ']) {
      expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
    }
    expect(tokenizer.vocabularySize).toBe(2048);
    expect([tokenizer.bos, ...tokenizer.eos]).toEqual([1, 2]);
  });

  it.skipIf(!existsSync(tinyStories))(
    'needs at most 0.95 bits a character on 40 TinyStories it never saw (skipped where they are not at hand)',
    async () => {
      const checkpoint = await openCheckpoint(folder);
      const stories = readFileSync(tinyStories, 'utf8').split('<|endoftext|>').slice(0, 40);
      const tokenizer = loadTokenizer(checkpoint.files);
      const documents = documentSequences(stories, tokenizer, { length: 512 });
      const scorer = modelScorer(loadModel(checkpoint));
      const { bitsPerCharacter } = await evaluate({ scorer, ...documents });
      expect(bitsPerCharacter.value).toBeLessThan(0.95);
      expect(bitsPerCharacter.value).toBeGreaterThan(0.5);
    },
  );
});

describe('the tokenizer script', () => {
  it('merges the most frequent pair first, and the smaller ids where two are equally frequent', () => {
    const { tokens, merges } = learnBytePairs('aab aab aab ab', ['<s>'], 1 + 256 + 3);
    expect(merges).toEqual([
      ['a', 'b'],
      ['a', 'ab'],
      ['Ġ', 'aab'],
    ]);
    expect(tokens.slice(-3)).toEqual(['ab', 'aab', 'Ġaab']);
  });
});

describe('training rows', () => {
  const documents = documentsOf(Uint16Array.of(1, 5, 2, 1, 6, 7, 2, 1, 8, 2), 1);

  it('are cut from whole stories that start with BOS', () => {
    expect(documents.map((document) => [...document])).toEqual([
      [1, 5, 2],
      [1, 6, 7, 2],
      [1, 8, 2],
    ]);
    const some = rows(documents, 5, 3);
    for (let i = 0; i < 20; i++) {
      const row = some.next().value as Uint16Array;
      expect(row).toHaveLength(5);
      expect(row[0]).toBe(1);
    }
  });

  it('are the same for the same seed and others for another', () => {
    const first = (seed: number) => {
      const some = rows(documents, 5, seed);
      return Array.from({ length: 8 }, () => [...(some.next().value as Uint16Array)]);
    };
    expect(first(3)).toEqual(first(3));
    expect(first(3)).not.toEqual(first(4));
  });
});
