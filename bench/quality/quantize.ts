/**
 * Our recipes on the yardstick that bench/peers/quantizers has for others: the linear layers of the base's blocks, the
 * same calibration tokens, the same measures; one JSON line a recipe.
 *
 *   npx tsx bench/quality/quantize.ts --base FOLDER --calibration FILE --evaluation FILE --recipe JSON [--recipe JSON]
 *     [--sequences 64] [--held 16] [--length 512] [--threads 2] [--generated] [--device cpu|webgpu]
 *
 * JSON is a recipe's steps: [{"method":"gptq","bits":4,"group":64}]. Bytes are those of the blocks' matrices. Seconds
 * are those of rewrites and the walk; memory is the process' peak before them and at their end. It rises only: for
 * memory run one recipe a process. With --generated the base writes as much text as it is calibrated on itself.
 */

import { parseArgs } from 'node:util';
import { applyRecipe } from '../../src/run/apply.ts';
import { targetsOf } from '../../src/calibrate/targets.ts';
import { encodedBytes } from '../../src/encodings/encoding.ts';
import type { Model } from '../../src/models/model.ts';
import { needsText } from '../../src/run/texts.ts';
import type { Recipe } from '../../src/recipe/recipe.ts';
import { checkRecipe } from '../../src/recipe/recipe.ts';
import { sampledSequences } from '../../src/generate/sampled.ts';
import { openYardstick, show, yardstickFlags } from '../peers/quantizers/tokens.ts';

const { values: flags } = parseArgs({
  options: {
    ...yardstickFlags,
    recipe: { type: 'string', multiple: true, default: [] },
    generated: { type: 'boolean' },
    device: { type: 'string', default: 'cpu' },
  },
});
const { model: base, calibration: given, threads, measure } = await openYardstick(flags);
const device = flags.device === 'webgpu' ? 'webgpu' : 'cpu';
const size = { count: given.length, length: given[0].length };
const calibration = flags.generated ? await sampledSequences(base, { ...size, seed: 0, threads }) : given;

// Peers measure no errors by layer: where no method asks for text, ours have none to do it on.
const compressed = async (recipe: Recipe): Promise<Model> => {
  const texts = { calibration: needsText(recipe) ? calibration : [] };
  return (await applyRecipe(base, recipe, texts, { device, threads })).model;
};

/** Of the matrices in blocks. */
function sizeOf(model: Model) {
  const blocks = targetsOf(model).filter(({ place }) => place === 'block');
  let [bytes, weights] = [0, 0];
  for (const { name, shape } of blocks) {
    bytes += encodedBytes(model.matrices.get(name)!);
    weights += shape[0] * shape[1];
  }
  return { bytes, bitsPerWeight: show((8 * bytes) / weights) };
}

const peak = () => process.resourceUsage().maxRSS * 1024;

for (const text of flags.recipe) {
  const recipe = checkRecipe({ steps: JSON.parse(text) as { method: string }[] });
  const [loadedBytes, start, cpu] = [peak(), performance.now(), process.cpuUsage()];
  const model = await compressed(recipe);
  const { user, system } = process.cpuUsage(cpu);
  const times = {
    seconds: show((performance.now() - start) / 1000),
    cpuSeconds: show((user + system) / 1e6),
    loadedBytes,
    peakBytes: peak(),
  };
  const line = { bench: 'quantizers', steps: JSON.parse(text) as unknown, ...sizeOf(model), ...times };
  console.log(JSON.stringify({ ...line, ...(await measure(model)) }));
}
