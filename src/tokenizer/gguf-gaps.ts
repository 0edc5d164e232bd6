/**
 * Where llama.cpp reads a text otherwise than the model's own tokenizer: the same ids may stand for the same tokens, and yet
 * engines normalize, cut and strip in ways of their own. A fixed set of texts is encoded by both.
 */

import type { GgufVocabulary } from './gguf.ts';
import { tokenizerFiles } from './gguf.ts';
import type { Files, Tokenizer } from './tokenizer.ts';
import { loadTokenizer } from './tokenizer.ts';

/** What people write: whoever reads these otherwise runs another model. */
const plainTexts = [
  'Once upon a time there was a cat.',
  'The Capital of FRANCE is Paris',
  'tabs\tand  two   spaces\nand lines\n\n  indented, 12345.678 and (brackets) "quotes" it\'s',
  'Grün, café, naïve, Ωμέγα, Привет, 你好, こんにちは, 안녕, 🐈',
  'def f(x):\n    return x**2 + y_1  # comment',
];

/** What few texts have: spaces in front, accents as characters of their own, letters of other widths. */
const rareTexts = [
  ' leading space',
  '  two leading spaces',
  'cafe\u0301 u\u0308ber',
  'ｆｕｌｌ ｗｉｄｔｈ',
  'trailing space ',
];

/** Beside special tokens, as prompts have them. */
const besideTokens = (token: string): readonly string[] => [
  `${token}Hello`,
  `${token} Hello`,
  `Hello${token}`,
  `Hello ${token} there`,
  `Hello${token}there\n${token}\n`,
];

export interface VocabularyGaps {
  /** Of plain text: what is read otherwise everywhere. */
  readonly plain: readonly string[];
  /** Of texts with spaces in front, decomposed accents, or special tokens: prompts, now and then. */
  readonly rare: readonly string[];
}

export interface GapTexts {
  readonly plain: readonly string[];
  readonly rare: readonly string[];
}

/** The fixed set, with special tokens of the vocabulary in it. */
export function gapTexts({ tokens, bos, eos, endOfTurn }: GgufVocabulary): GapTexts {
  const special = [bos, eos, endOfTurn].flatMap((id) => (id === undefined ? [] : [tokens[id]!]));
  return { plain: plainTexts, rare: [...rareTexts, ...[...new Set(special)].flatMap(besideTokens)] };
}

/**
 * @param others ids of the texts, plain ones first, as the engine has them, without a BOS of its own
 * @returns the texts that it reads otherwise
 */
export function vocabularyGaps(
  { encode }: Pick<Tokenizer, 'encode'>,
  { plain, rare }: GapTexts,
  others: readonly ArrayLike<number>[],
): VocabularyGaps {
  const differs = (text: string, index: number) =>
    Array.from(encode(text)).join() !== Array.from(others[index]!).join();
  return {
    plain: plain.filter((text, index) => differs(text, index)),
    rare: rare.filter((text, index) => differs(text, plain.length + index)),
  };
}

/** By what llama.cpp does, as the reader of GGUF vocabularies computes it: where there is no llama.cpp to ask. */
export function gapsByRule(files: Files, vocabulary: GgufVocabulary): VocabularyGaps {
  const texts = gapTexts(vocabulary);
  const other = loadTokenizer(tokenizerFiles(vocabulary));
  const all = [...texts.plain, ...texts.rare];
  return vocabularyGaps(
    loadTokenizer(files),
    texts,
    all.map((text) => other.encode(text)),
  );
}
