/** AWQ's checkpoint format (AutoAWQ, version "gemm"), a folder that vLLM, SGLang, transformers and MLX load. */

import { awqLayout, checkAwq } from '../export/safetensors/awq.ts';
import { checkExact, integerSizes, refuse, scalesOf } from '../export/safetensors/integers.ts';
import { groupFor, integers } from './recommend.ts';
import { safetensorsFormat } from './safetensors.ts';
import { vllmCard } from './vllm.ts';

export const awq = safetensorsFormat({
  name: 'awq',
  label: 'AWQ for vLLM and AutoAWQ',
  engines: {},
  alsoRunBy: ['vllm', 'transformers'],
  recommend: (wanted) => integers(wanted, { group: groupFor(wanted.widths, [128, 64, 32]) }),
  grids: { offsets: false, wideScales: false },
  keepsTables: true,
  fused: true,
  fitting: () => ({}),
  storedBits: ({ bits }) => Math.max(4, bits),
  fits(encoding, { shape: [rows, columns] }) {
    const sizes = integerSizes(encoding);
    if (sizes) return checkAwq({ ...sizes, rows });
    const fix = 'choose --method gptq or rtn';
    refuse('AWQ', { rows, columns }, { expected: 'integers in groups', found: encoding.label, fix });
  },
  exact: (encoding) => checkExact('AWQ', encoding, scalesOf(encoding)),
  layout: awqLayout,
  card: vllmCard(['awq']),
});
