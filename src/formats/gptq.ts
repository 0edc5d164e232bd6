/** GPTQ's checkpoint format, a folder that vLLM, SGLang, transformers and GPTQModel load. */

import { checkGptq, gptqLayout } from '../export/safetensors/gptq.ts';
import { integerSizes, refuse } from '../export/safetensors/integers.ts';
import { quantizedSizes } from '../export/safetensors/kinds.ts';
import { groupFor, integers } from './recommend.ts';
import { safetensorsFormat } from './safetensors.ts';
import { vllmCard } from './vllm.ts';

export const gptq = safetensorsFormat({
  label: 'GPTQ for vLLM and GPTQModel',
  engines: [],
  recommend: (wanted) => integers(wanted, { group: groupFor(wanted.widths, [128, 64, 32]) }),
  keepsTables: true,
  fitting: () => ({}),
  fits(encoding, { shape: [rows, columns] }) {
    const sizes = integerSizes(encoding);
    if (sizes) return checkGptq({ ...sizes, rows });
    refuse(
      'GPTQ',
      { rows, columns },
      {
        expected: 'integers in groups',
        found: encoding.label,
        fix: 'choose --method gptq or rtn',
      },
    );
  },
  layout: gptqLayout,
  notes: (model) =>
    [...quantizedSizes(model).values()].every(({ symmetric }) => symmetric)
      ? []
      : [
          "Has zero points, so it is written as gptq_v2: vLLM's Marlin kernels and older engines read only what has none, which symmetric: true gives.",
        ],
  card: vllmCard(['gptq']),
});
