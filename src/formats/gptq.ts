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
  recommend(wanted) {
    const own = { group: groupFor(wanted.widths, [128, 64, 32]), symmetric: true };
    const { step, reason } = integers(wanted, own);
    const symmetric =
      'symmetric, since vLLM reads no zero points in this format (figures are with them: --for vllm writes them as compressed-tensors)';
    return { step, reason: `${reason}; ${symmetric}` };
  },
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
  notes(model) {
    const sizes = [...quantizedSizes(model).values()];
    const notes: string[] = [];
    if (sizes.some(({ symmetric }) => !symmetric))
      notes.push(
        "Has zero points, so it is written as gptq_v2: GPTQModel loads it, vLLM (0.32) and older engines only what has none, which symmetric: true gives. vLLM reads zero points in AWQ's format and in compressed-tensors.",
      );
    if (sizes.some(({ bits }) => bits !== 4 && bits !== 8))
      notes.push("vLLM (0.32) loads GPTQ's format with 4 and 8 bits alone; GPTQModel with 2 and 3, too.");
    return notes;
  },
  card: vllmCard(['gptq']),
});
