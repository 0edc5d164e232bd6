/** GPTQ's checkpoint format, a folder that vLLM, SGLang, transformers and GPTQModel load. */

import { checkGptq, gptqLayout } from '../export/safetensors/gptq.ts';
import { checkExact, integerSizes, refuse, scalesOf } from '../export/safetensors/integers.ts';
import { quantizedSizes } from '../export/safetensors/kinds.ts';
import type { Model } from '../models/model.ts';
import type { CardFacts, CardFormat } from '../report/card-format.ts';
import { exampleMessages, examplePrompt } from '../report/use.ts';
import { groupFor, integers } from './recommend.ts';
import { safetensorsFormat } from './safetensors.ts';
import { vllmCard } from './vllm.ts';

export const gptq = safetensorsFormat({
  name: 'gptq',
  label: 'GPTQ for vLLM and GPTQModel',
  engines: {},
  alsoRunBy: ['vllm', 'transformers'],
  recommend(wanted) {
    // vLLM reads no zero points in this format.
    return integers(wanted, { group: groupFor(wanted.widths, [128, 64, 32]), symmetric: true });
  },
  grids: { offsets: false, wideScales: false },
  keepsTables: true,
  fused: true,
  fitting: () => ({}),
  storedBits: ({ bits }) => bits,
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
  exact: (encoding) => checkExact('GPTQ', encoding, scalesOf(encoding)),
  layout: gptqLayout,
  notes(model) {
    const { hasZeroPoints, hasOtherWidths } = limitsOf(model);
    const notes: string[] = [];
    if (hasZeroPoints)
      notes.push(
        "Has zero points, so it is written as gptq_v2: GPTQModel loads it, vLLM (0.32) and older engines only what has none, which symmetric: true gives. vLLM reads zero points in AWQ's format and in compressed-tensors.",
      );
    if (hasOtherWidths)
      notes.push("vLLM (0.32) loads GPTQ's format with 4 and 8 bits alone; GPTQModel with 2 and 3, too.");
    return notes;
  },
  card(facts) {
    const { hasZeroPoints, hasOtherWidths } = limitsOf(facts.model);
    const served = vllmCard(['gptq'])(facts);
    return hasZeroPoints || hasOtherWidths ? { ...served, usage: inGptqModel(facts) } : served;
  },
});

/** What vLLM does not take of this format, and GPTQModel does. */
function limitsOf(model: Model) {
  const sizes = [...quantizedSizes(model).values()];
  return {
    hasZeroPoints: sizes.some(({ symmetric }) => !symmetric),
    hasOtherWidths: sizes.some(({ bits }) => bits !== 4 && bits !== 8),
  };
}

const inGptqModel = ({ name, chat }: CardFacts): CardFormat['usage'] => [
  {
    title: `With GPTQModel, beside the folder; or with \`user/${name}\`, once it is uploaded:`,
    language: 'python',
    code: [
      'from gptqmodel import GPTQModel',
      '',
      `model = GPTQModel.load(${JSON.stringify(`./${name}`)})`,
      ...(chat
        ? [
            `messages = ${JSON.stringify(exampleMessages)}`,
            'prompt = model.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)',
            'print(model.tokenizer.decode(model.generate(prompt)[0]))',
          ]
        : [`print(model.tokenizer.decode(model.generate(${JSON.stringify(examplePrompt(false))})[0]))`]),
    ].join('\n'),
  },
];
