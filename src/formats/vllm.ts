/** The model card of folders that vLLM serves. */

import { shellWord } from '../base/shell.ts';
import type { Format } from './format.ts';

export const vllmCard =
  (tags: readonly string[]): Format['card'] =>
  (name) => ({
    library: 'transformers',
    tags: [...tags],
    usage: { language: 'sh', code: `vllm serve ${shellWord(name)}` },
  });
