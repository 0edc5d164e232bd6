/** Whether llama.cpp reads texts as the model's own tokenizer does: by rule before the work, by asking llama.cpp after it. */

import { ExitCode, LapidaryError } from '../base/errors.ts';
import type { Llama } from '../export/llama/find.ts';
import type { LlamaOptions } from '../export/llama/process.ts';
import { askLlama } from '../export/llama/process.ts';
import type { OpenedCheckpoint } from '../open.ts';
import type { VocabularyGaps } from '../tokenizer/gguf-gaps.ts';
import { gapsByRule, gapTexts, vocabularyGaps } from '../tokenizer/gguf-gaps.ts';
import { vocabularyFromFiles } from '../tokenizer/gguf-write.ts';

const wordsOf = ({ model: { files, config } }: OpenedCheckpoint) =>
  vocabularyFromFiles(files, config.vocabulary, config);

/** @throws LapidaryError where plain text would be read otherwise */
export function checkVocabulary(original: OpenedCheckpoint): void {
  const [text] = gapsByRule(original.model.files, wordsOf(original)).plain;
  if (text !== undefined) throw readOtherwise(text, 'llama.cpp');
}

/**
 * @param llama asked where it is there
 * @returns what readers of the report must know: texts that few write are read otherwise
 * @throws LapidaryError with exit code verification where plain text is
 */
export async function vocabularyNotes(
  original: OpenedCheckpoint,
  path: string,
  llama: Llama | undefined,
  options: LlamaOptions,
): Promise<readonly string[]> {
  const words = wordsOf(original);
  const { plain, rare } = llama
    ? await gapsIn(llama, path, original, options)
    : gapsByRule(original.model.files, words);
  if (plain[0] !== undefined) throw readOtherwise(plain[0], llama!.engine, ExitCode.verification);
  if (rare.length === 0) return [];
  const shown = rare.slice(0, 3).map((text) => JSON.stringify(text));
  return [
    `llama.cpp reads some texts otherwise than the model's own tokenizer (${shown.join(', ')}${rare.length > 3 ? ` and ${rare.length - 3} others of its kind` : ''}): spaces in front of a text or beside special tokens, or decomposed accents. Prompts may be answered otherwise.`,
  ];
}

async function gapsIn(
  { entry }: Llama,
  path: string,
  original: OpenedCheckpoint,
  options: LlamaOptions,
): Promise<VocabularyGaps> {
  const texts = gapTexts(wordsOf(original));
  const found = await askLlama(entry, 'tokens', { path, texts: [...texts.plain, ...texts.rare] }, options);
  return vocabularyGaps(original.tokenizer, texts, found);
}

function readOtherwise(text: string, engine: string, code?: ExitCode): LapidaryError {
  return new LapidaryError(
    {
      what: `${engine} reads plain text otherwise than the model's own tokenizer, whose steps it does not have`,
      where: 'tokenizer.json, its normalizer and pre_tokenizer',
      expected: 'the same ids from both',
      found: `other ids for ${JSON.stringify(text)}`,
      fix: 'write another format: --for transformers.js, vllm or mlx',
    },
    code,
  );
}
