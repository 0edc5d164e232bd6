/** compressed-tensors: a folder that vLLM and transformers load. */

import { compressedTensorsLayout, schemeOf, engineNotes } from '../export/safetensors/compressed-tensors.ts';
import type { Format } from './format.ts';
import { groupFor, integers } from './recommend.ts';
import { safetensorsFormat } from './safetensors.ts';
import { vllmCard } from './vllm.ts';

export const compressedTensors: Format = safetensorsFormat({
  label: 'compressed-tensors for vLLM',
  engines: ['vllm'],
  recommend: (wanted) => integers(wanted, { group: groupFor(wanted.widths, [128, 64, 32]) }),
  keepsTables: true,
  fitting: () => ({}),
  fits: (encoding) => void schemeOf(encoding, 'float16'),
  layout: compressedTensorsLayout,
  notes: engineNotes,
  card: vllmCard(['compressed-tensors', 'vllm']),
});
