/** compressed-tensors: a folder that vLLM and transformers load. */

import { compressedTensorsLayout, schemeOf, engineNotes } from '../export/safetensors/compressed-tensors.ts';
import { checkExact, integerSizes, scalesOf } from '../export/safetensors/integers.ts';
import type { Format } from './format.ts';
import { groupFor, integers } from './recommend.ts';
import { safetensorsFormat } from './safetensors.ts';
import { vllmCard } from './vllm.ts';

export const compressedTensors: Format = safetensorsFormat({
  name: 'compressed-tensors',
  label: 'compressed-tensors for vLLM',
  engines: { vllm: {}, transformers: {} },
  recommend: (wanted) => integers(wanted, { group: groupFor(wanted.widths, [128, 64, 32]) }),
  grids: { offsets: false, wideScales: false },
  keepsTables: true,
  fused: true,
  fitting: () => ({}),
  // Where inputs are rounded, a byte for each code.
  storedBits: ({ bits, zeroPoints, roundedInputs }) =>
    roundedInputs ? 8 : bits === 3 && zeroPoints ? 4 : bits,
  fits: (encoding) => void schemeOf(encoding, 'float16'),
  exact(encoding, floats) {
    // Others store float32, or codes of their own.
    if (integerSizes(encoding)) checkExact('compressed-tensors', encoding, scalesOf(encoding), floats);
  },
  layout: compressedTensorsLayout,
  notes: engineNotes,
  card: vllmCard(['compressed-tensors', 'vllm']),
});
