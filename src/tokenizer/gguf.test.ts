import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { LapidaryError } from '../base/errors.ts';
import type { GgufVocabulary } from './gguf.ts';
import { TokenType, tokenizerFiles } from './gguf.ts';
import { vocabularyFromFiles } from './gguf-write.ts';
import { checkText, preHashes, preTokenizers } from './pre.ts';
import { loadTokenizer } from './tokenizer.ts';

/** SentencePiece, small: two spaces, letters of "hello", bytes. */
const bytes = Array.from({ length: 256 }, (_, b) => `<0x${b.toString(16).toUpperCase().padStart(2, '0')}>`);
const words = ['▁', 'h', 'e', 'l', 'o', 'he', 'll', 'hell', 'hello', '▁hello', 'lo', '▁he'];
const pieces: GgufVocabulary = {
  model: 'llama',
  tokens: ['<unk>', '<s>', '</s>', ...bytes, ...words, '<|user|>'],
  types: [2, 3, 3, ...bytes.map(() => 6), ...words.map(() => 1), 4],
  scores: [0, 0, 0, ...bytes.map(() => 0), ...words.map((_, i) => -i), 0],
  bos: 1,
  eos: 2,
  unknown: 0,
};
const first = 259;

const letters: GgufVocabulary = {
  model: 'gpt2',
  pre: 'gpt-2',
  tokens: ['a', 'b', 'Ġ', 'ab', 'Ġab', '1', '2', '12', '<|end|>'],
  types: [1, 1, 1, 1, 1, 1, 1, 1, 3],
  merges: ['a b', 'Ġ ab', '1 2'],
  bos: 8,
  eos: 8,
};

const encode = (vocabulary: GgufVocabulary, text: string, options = {}) =>
  Array.from(loadTokenizer(tokenizerFiles(vocabulary)).encode(text, options));

describe('a SentencePiece vocabulary of a GGUF', () => {
  it('joins the neighbours whose token scores best, a space before the text', () => {
    expect(encode(pieces, 'hello')).toEqual([first + 9]);
    // "ll" (-6) before "lo" (-10).
    expect(encode(pieces, 'llo')).toEqual([first, first + 6, first + 4]);
    expect(encode({ ...pieces, addSpacePrefix: false }, 'hello')).toEqual([first + 8]);
  });

  it('falls back to bytes, and decodes what it encoded', () => {
    const tokenizer = loadTokenizer(tokenizerFiles(pieces));
    expect(encode(pieces, 'é')).toEqual([first, 3 + 0xc3, 3 + 0xa9]);
    for (const text of ['hello', ' hello', 'hello é 世界', 'a\nb'])
      expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
  });

  it('begins with BOS unless told otherwise, and knows user-defined tokens', () => {
    expect(encode(pieces, 'he', { bos: true })[0]).toBe(1);
    expect(encode({ ...pieces, addBos: false }, 'he', { bos: true })[0]).not.toBe(1);
    expect(encode(pieces, '<|user|>')).toEqual([pieces.tokens.length - 1]);
  });
});

describe('a byte-level vocabulary of a GGUF', () => {
  it('merges by rank within the pieces that `pre` cuts', () => {
    expect(encode(letters, 'ab ab12')).toEqual([3, 4, 7]);
    expect(encode({ ...letters, pre: 'starcoder' }, 'ab ab12')).toEqual([3, 4, 5, 6]);
  });

  it('begins with BOS only where the file or `pre` says so', () => {
    expect(encode(letters, 'ab', { bos: true })).toEqual([3]);
    expect(encode({ ...letters, addBos: true }, 'ab', { bos: true })).toEqual([8, 3]);
    expect(encode({ ...letters, pre: 'llama-bpe' }, 'ab', { bos: true })).toEqual([8, 3]);
  });

  it('carries its chat template and its ends', () => {
    const chatTemplate = '{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}';
    const tokenizer = loadTokenizer(tokenizerFiles({ ...letters, chatTemplate, endOfTurn: 0 }));
    expect(tokenizer.chat?.([{ role: 'user', content: 'ab' }])).toBe('<|end|>ab');
    expect([...tokenizer.eos].sort()).toEqual([0, 8]);
  });
});

describe('vocabularies that are refused', () => {
  it.each([
    [{ ...letters, model: 'bert' }, /gpt2 or llama(.|\n)*bert/],
    [{ ...letters, pre: 'klingon' }, /cutting text(.|\n)*klingon/],
    [{ ...letters, merges: undefined }, /without merges/],
    [{ ...pieces, scores: undefined }, /without scores/],
    [{ ...letters, types: [1] }, /token_type(.|\n)*9(.|\n)*1/],
    [{ ...letters, bos: 9 }, /bos token is none/],
    [{ ...letters, eos: -1 }, /eos token is none/],
  ])('%#', (vocabulary, message) => {
    expect(() => tokenizerFiles(vocabulary)).toThrow(LapidaryError);
    expect(() => tokenizerFiles(vocabulary)).toThrow(message);
  });
});

describe('the way back', () => {
  it.each([
    ['SentencePiece', pieces],
    ['byte-level', letters],
    ['digit by digit', { ...letters, pre: 'smollm' }],
    ['llama-bpe', { ...letters, pre: 'llama-bpe' }],
  ])('%s: what was read is what is written', (_kind, vocabulary) => {
    const again = vocabularyFromFiles(tokenizerFiles(vocabulary), vocabulary.tokens.length);
    expect(again.model).toBe(vocabulary.model);
    expect(again.tokens).toEqual(vocabulary.tokens);
    expect(Array.from(again.types!)).toEqual(vocabulary.types);
    expect(again.eos).toBe(vocabulary.eos);
    for (const text of ['hello ab12 ab', ' ab  ab', 'lohell'])
      expect(encode({ ...again, bos: undefined }, text)).toEqual(
        encode({ ...vocabulary, bos: undefined }, text),
      );
    const patterns = (pre: string | undefined) => preTokenizers.get(pre ?? 'default')?.patterns;
    expect(patterns(again.pre)).toEqual(patterns(vocabulary.pre));
  });

  it('fills up what the embedding has beyond the tokens', () => {
    const { tokens, types } = vocabularyFromFiles(tokenizerFiles(letters), 12);
    expect(tokens.slice(9)).toEqual(['[PAD9]', '[PAD10]', '[PAD11]']);
    expect(types![11]).toBe(TokenType.unused);
  });

  it('refuses what llama.cpp does not compute', () => {
    const changed = (change: (definition: Record<string, never>) => object) => {
      const definition = JSON.parse(Buffer.from(tokenizerFiles(letters).get('tokenizer.json')!()).toString());
      return new Map([
        ['tokenizer.json', () => Buffer.from(JSON.stringify({ ...definition, ...change(definition) }))],
      ]);
    };
    const spaced = { pre_tokenizer: { type: 'ByteLevel', add_prefix_space: true } };
    expect(() =>
      vocabularyFromFiles(
        changed(() => spaced),
        9,
      ),
    ).toThrow(/space before every text/);
    const odd = { pre_tokenizer: { type: 'Split', pattern: { Regex: 'x' }, behavior: 'Isolated' } };
    expect(() =>
      vocabularyFromFiles(
        changed(() => odd),
        9,
      ),
    ).toThrow(/no name for/);
    const level = { model: { type: 'WordLevel', vocab: { a: 0 }, unk_token: 'a' }, added_tokens: [] };
    expect(() =>
      vocabularyFromFiles(
        changed(() => level),
        9,
      ),
    ).toThrow(/WordLevel/);
  });
});

const gpt2 = '../shared/models/gpt2-micro-hf';
const given = '../shared/models/ggml-vocab/ggml-vocab-gpt-2.gguf';

describe.skipIf(!existsSync(gpt2) || !existsSync(given))(
  "llama.cpp's own inputs (skipped without ../shared)",
  () => {
    it('give the ids that llama.cpp expects, by GPT-2 as a GGUF vocabulary', () => {
      const names = ['tokenizer.json', 'tokenizer_config.json'];
      const files = new Map(names.map((name) => [name, () => readFileSync(`${gpt2}/${name}`)]));
      const vocabulary = vocabularyFromFiles(files, 50257);
      const tokenizer = loadTokenizer(tokenizerFiles(vocabulary));
      expect(vocabulary.pre).toBe('gpt-2');
      // Known by its hash, not only by its rules.
      const checked = `[${Array.from(tokenizer.encode(checkText)).join(', ')}]`;
      expect(preHashes.get(createHash('sha256').update(checked).digest('hex'))).toBe('gpt-2');
      const texts = readFileSync(`${given}.inp`, 'utf8').split('\n__ggml_vocab_test__\n');
      const ids = readFileSync(`${given}.out`, 'utf8').split('\n');
      expect(texts.length).toBe(47);
      for (const [i, text] of texts.entries()) {
        expect(Array.from(tokenizer.encode(text)).join(' '), JSON.stringify(text)).toBe(
          (ids[i] ?? '').trim(),
        );
        expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
      }
    });
  },
);
