/**
 * Makes the checkpoint that ships out of the one that train.ts wrote: bfloat16, with its temperature set right.
 *
 *   npx tsx scripts/pebble/finish.ts --trained DIR/model.safetensors --out models/pebble --temperature 0.8
 *
 * The training text was sampled at a temperature T, and what learns it well learns p^(1/T), normalized: too sharp for
 * text that was not sampled so. Logits multiplied by T undo that. The last norm's weight scales the logits, so that
 * the factor is folded into it.
 */

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { floatToBfloat, toFloat32 } from '../../src/base/half.ts';
import { stored } from '../../src/base/tensor.ts';
import { openSafetensors } from '../../src/io/safetensors/read.ts';
import { writeSafetensors } from '../../src/io/safetensors/write.ts';

const { values } = parseArgs({
  options: {
    trained: { type: 'string' },
    out: { type: 'string', default: 'models/pebble' },
    temperature: { type: 'string', default: '0.8' },
  },
});
if (!values.trained) throw new Error('--trained FILE is needed');
const temperature = Number(values.temperature);
const finished = [...openSafetensors(values.trained).tensors].map(([name, tensor]) => {
  const weight = toFloat32(tensor);
  const scaled = name === 'model.norm.weight' ? weight.map((value) => value * temperature) : weight;
  return [name, stored('bfloat16', tensor.shape, floatToBfloat(scaled))] as const;
});
mkdirSync(values.out, { recursive: true });
await writeSafetensors(join(values.out, 'model.safetensors'), new Map(finished));
