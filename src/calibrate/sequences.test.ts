import { describe, expect, it } from 'vitest';
import type { Codec } from './sequences.ts';
import { chunksOf, documentSequences, packSequences } from './sequences.ts';

/** One token a character: its code point, after BOS. */
const characters: Codec = {
  encode: (text, { bos = false } = {}) =>
    Int32Array.from([...(bos ? [1] : []), ...Array.from(text, (character) => character.codePointAt(0)!)]),
  decode: (tokens) => String.fromCodePoint(...Array.from(tokens)),
};
const text = (tokens: Int32Array) =>
  Array.from(tokens, (token) => (token === 1 ? '|' : String.fromCodePoint(token))).join('');

describe('packing for calibration', () => {
  const documents = ['abcde', 'fgh', 'ijklmno', 'p', 'qrstuvwxyz'];

  it('joins whole documents behind BOS in a seeded order and cuts equal lengths', () => {
    const { sequences, note } = packSequences(documents, characters, { length: 10, count: 3, seed: 4 });
    expect(sequences.map((sequence) => sequence.length)).toEqual([10, 10, 10]);
    expect(note).toBeUndefined();
    const pieces = sequences.map(text).join('').split('|').slice(1);
    expect(pieces.slice(0, -1).every((piece) => documents.includes(piece))).toBe(true);
    expect(documents.some((document) => document.startsWith(pieces.at(-1)!))).toBe(true);
  });

  it('gives the same for the same seed and another order for another', () => {
    const pack = (seed: number) =>
      packSequences(documents, characters, { length: 31, count: 1, seed }).sequences;
    expect(pack(1)).toEqual(pack(1));
    expect(new Set([1, 2, 3, 4, 5].map((seed) => text(pack(seed)[0]))).size).toBeGreaterThan(1);
  });

  it('says how many sequences there were when the text gives fewer than asked', () => {
    const { sequences, note } = packSequences(documents, characters, { length: 10, count: 8, seed: 0 });
    expect(sequences).toHaveLength(3);
    expect(note).toContain('3 of the 8 sequences of 10 tokens');
  });

  it('refuses text too short for one sequence', () => {
    const pack = () => packSequences(['abc'], characters, { length: 10, count: 1, seed: 0 });
    expect(pack).toThrow(/too short\n.*10 tokens\n.*4 tokens in 1 documents/);
  });
});

describe('sequences for evaluation', () => {
  it('are one a document, trimmed, behind BOS, cut at the length, with the characters they predict', () => {
    const made = documentSequences([' ab ', 'cdefgh', 'ü🐈'], characters, { length: 5 });
    expect(made.sequences.map(text)).toEqual(['|ab', '|cdef', '|ü🐈']);
    expect(made.characters).toEqual([2, 4, 2]);
  });

  it('of a single document are windows, each behind BOS, that predict every token once', () => {
    const made = documentSequences([' abcdefgh '], characters, { length: 4 });
    expect(made.sequences.map(text)).toEqual(['|abc', '|def', '|gh']);
    expect(made.characters).toEqual([3, 3, 2]);
    expect(documentSequences(['abcdefgh'], characters, { length: 4, documents: 2 }).sequences).toHaveLength(
      2,
    );
    const noBos = { ...characters, encode: (text: string) => characters.encode(text) };
    expect(documentSequences(['abcdefgh'], noBos, { length: 4 }).sequences.map(text)).toEqual([
      'abcd',
      'efgh',
    ]);
    expect(() => documentSequences(['abcdefgh'], characters, { length: 1 })).toThrow('nothing to predict');
  });

  it('leave out documents with nothing to predict, and stop at the number asked', () => {
    expect(documentSequences(['', 'ab', 'cd'], characters, { length: 9 }).sequences).toHaveLength(2);
    expect(documentSequences(['ab', 'cd'], characters, { length: 9, documents: 1 }).sequences).toHaveLength(
      1,
    );
    expect(() => documentSequences(['', ' '], characters, { length: 9 })).toThrow('nothing to predict');
  });
});

describe('chunks, as llama.cpp cuts them', () => {
  const withBos = {
    ...characters,
    bos: 1,
    encode: (each: string, { bos, special }: { bos?: boolean; special?: boolean } = {}) =>
      characters.encode(each, { bos: (bos ?? false) || (special ?? false) }),
  };

  it('follow each other, with BOS in place of the first token of each, and the rest dropped', () => {
    const chunks = chunksOf(['abcdefgh', 'ijkl'], withBos, { length: 4 });
    expect(chunks.map(text)).toEqual(['|abc', '|efg', '||ij']);
  });

  it('begin with nothing where texts do', () => {
    expect(chunksOf(['abcdefgh', 'ij'], characters, { length: 4 }).map(text)).toEqual(['abcd', 'efgh']);
  });

  it('are as many as are asked for, at least one', () => {
    expect(chunksOf(['abcdefgh'], withBos, { length: 4, count: 1 }).map(text)).toEqual(['|abc']);
    expect(() => chunksOf(['abc'], characters, { length: 4 })).toThrow('found: 3 tokens in 1 documents');
  });
});
