/**
 * Perplexity of a GGUF file as we read and compute it, and as llama.cpp does, on the same tokens:
 *
 *   npx tsx bench/quality/beside-llama.ts FILE.gguf TEXT [--length 256] [--windows 8]
 *
 * One JSON line: both perplexities over all predicted tokens, their ratio, and how far the logits of the worst and of the median
 * token are apart, in spreads. Needs the packages of test/engines/llama (node test/engines/install.js).
 */

import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { median } from '../../src/evaluate/bootstrap.ts';
import { askLlama } from '../../src/export/llama/process.ts';
import { logits } from '../../src/models/runner.ts';
import { openModel } from '../../src/open.ts';
import { openLlama } from '../../test/engines/llama/llama.ts';

const { values: flags, positionals } = parseArgs({
  options: { length: { type: 'string', default: '256' }, windows: { type: 'string', default: '8' } },
  allowPositionals: true,
});
const [path, text] = positionals;
if (path === undefined || text === undefined) throw new Error('FILE.gguf and TEXT are needed');

const { model, tokenizer } = await openModel(path);
const { entry, engine } = await openLlama();
const { vocabulary, bos } = model!.config;
const all = tokenizer.encode(readFileSync(text, 'utf8'));
const step = Number(flags.length) - 1;
const windows = Array.from({ length: Number(flags.windows) }, (_, index) => [
  ...(bos === undefined ? [] : [bos]),
  ...all.slice(index * step, (index + 1) * step),
]);

/** Sum of -log p of the tokens behind the first. */
function nats(scores: Float32Array, ids: readonly number[]): number {
  let sum = 0;
  for (let at = 0; at + 1 < ids.length; at++) {
    const row = scores.subarray(at * vocabulary, (at + 1) * vocabulary);
    const most = row.reduce((a, b) => Math.max(a, b));
    const total = row.reduce((total, score) => total + Math.exp(score - most), 0);
    sum += most + Math.log(total) - row[ids[at + 1]!]!;
  }
  return sum;
}

const sums = { ours: 0, theirs: 0, tokens: 0 };
const distances: number[] = [];
for (const ids of windows) {
  const ours = (await logits(model!, [ids])).data as Float32Array;
  const [theirs] = await askLlama(entry, 'logits', { path, sequences: [ids] }, { threads: 2 });
  sums.ours += nats(ours, ids);
  sums.theirs += nats(theirs!, ids);
  sums.tokens += ids.length - 1;
  for (let at = 0; at < ids.length; at++) {
    let [difference, square, sum] = [0, 0, 0];
    for (let i = at * vocabulary; i < (at + 1) * vocabulary; i++) {
      difference += (ours[i]! - theirs![i]!) ** 2;
      square += ours[i]! ** 2;
      sum += ours[i]!;
    }
    distances.push(Math.sqrt(difference / (square - sum ** 2 / vocabulary)));
  }
}
const perplexity = (sum: number) => Math.exp(sum / sums.tokens);
console.log(
  JSON.stringify({
    path,
    engine,
    tokens: sums.tokens,
    ours: perplexity(sums.ours),
    theirs: perplexity(sums.theirs),
    ratio: perplexity(sums.ours - sums.theirs),
    worst: Math.max(...distances),
    median: median(distances),
  }),
);
