/** Tokens that begin, end and pad texts: from generation_config.json, where engines look first, then from config.json. */

import type { Files } from '../tokenizer/tokenizer.ts';
import { idsOf, readJson } from '../tokenizer/tokenizer.ts';
import type { Configuration } from './model.ts';
import type { Json } from './settings.ts';

/** The configuration with them; ids without a row of the embedding cannot come out of the model, nor go into it. */
export function withSpecialIds(config: Configuration, files: Files): Configuration {
  const generation: Json = readJson(files, 'generation_config.json') ?? {};
  const known = (key: string): readonly number[] => {
    const first = idsOf(generation[key]);
    const ids = first.length > 0 ? first : idsOf(config.json[key]);
    return [...new Set(ids)].filter((id) => id < config.vocabulary);
  };
  return {
    ...config,
    bos: known('bos_token_id')[0],
    eos: known('eos_token_id'),
    pad: known('pad_token_id')[0],
  };
}
