/**
 * How fast matrices are quantized to ggml's blocks, against ggml's own code on one thread: ours in the kernels on one
 * thread and on two, and the plain form (on fewer weights). One JSON line a type, without importance and with, in
 * million weights a second, the best of several runs; `ratio` is two threads of ours to ggml's one. Weights are normal;
 * needs test/engines/llama.
 *
 *   npx tsx bench/blocks/run.ts [--weights 4194304] [--repeats 5] [--types Q4_K,Q6_K]
 */

import { parseArgs } from 'node:util';
import { random } from '../../src/base/random.ts';
import { blockTypes } from '../../src/encodings/blocks/index.ts';
import { askGgml } from '../../test/blocks-ggml.ts';

const { values: flags } = parseArgs({
  options: {
    weights: { type: 'string', default: '4194304' },
    repeats: { type: 'string', default: '5' },
    types: { type: 'string' },
  },
});
const repeats = Number(flags.repeats);
const columns = 2048;
const count = Math.floor(Number(flags.weights) / columns) * columns;
const { normal, uniform } = random(1);
const values = Float32Array.from({ length: count }, () => 0.02 * normal());
const some = values.subarray(0, Math.min(count, 128 * columns));
const importance = Float32Array.from({ length: columns }, uniform);

async function best(work: () => unknown): Promise<number> {
  let least = Number.POSITIVE_INFINITY;
  for (let i = 0; i < repeats; i++) {
    const start = performance.now();
    await work();
    least = Math.min(least, performance.now() - start);
  }
  return least;
}

async function main(): Promise<void> {
  const names = flags.types?.split(',');
  for (const type of blockTypes.byId.values()) {
    if (names && !names.includes(type.name)) continue;
    for (const weights of [undefined, importance]) {
      const [{ milliseconds }] = askGgml([{ type, values, columns, importance: weights, repeats }]);
      const rate = (time: number, of = count) => Number((of / time / 1000).toFixed(1));
      const ggml = rate(milliseconds);
      const one = rate(await best(() => type.quantizeFast(values, columns, weights, 1)));
      const two = rate(await best(() => type.quantizeFast(values, columns, weights, 2)));
      const plain = rate(await best(() => type.quantize(some, columns, weights)), some.length);
      const ratio = Number((two / ggml).toFixed(2));
      const line = { type: type.name, importance: weights !== undefined, ggml, one, two, plain, ratio };
      console.log(JSON.stringify(line));
    }
  }
  // The threads of the kernels wait for more.
  process.exit(0);
}

await main();
