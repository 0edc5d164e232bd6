/** compressed-tensors: a folder that vLLM and transformers load. */

import { shellWord } from '../base/shell.ts';
import { compressedTensorsLayout, schemeOf, vllmNotes } from '../export/safetensors/compressed-tensors.ts';
import type { Format } from './format.ts';
import { safetensorsFormat } from './safetensors.ts';

export const compressedTensors: Format = safetensorsFormat({
  label: 'compressed-tensors for vLLM',
  defaultMethod: 'gptq',
  keepsTables: true,
  fitting: () => ({}),
  fits: (encoding) => void schemeOf(encoding, 'float16'),
  layout: compressedTensorsLayout,
  notes: vllmNotes,
  card: (name) => ({
    library: 'transformers',
    tags: ['compressed-tensors', 'vllm'],
    usage: { language: 'sh', code: `vllm serve ${shellWord(name)}` },
  }),
});
