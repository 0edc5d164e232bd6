/**
 * Samples stories from bitllama-3m at temperature 1, as many rows at once as the device takes; a row whose story ends
 * begins the next one at once.
 *
 *   npx tsx scripts/pebble/sample-teacher.ts --model bit_model.bin --tokenizer FOLDER --out stories.txt.gz --minutes 4 --device webgpu
 *
 * FOLDER holds the tokenizer.json of the same 512 tokens (stories260K-hf).
 */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';
import { Tokenizer } from '@huggingface/tokenizers';
import { random } from '../../src/base/random.ts';
import type { Device, Tensor } from '../../src/graph/session.ts';
import { openSession, tensor } from '../../src/graph/session.ts';
import { separator } from './stories.ts';
import { readTeacher, teacherStep } from './teacher.ts';

const { values } = parseArgs({
  options: {
    model: { type: 'string' },
    tokenizer: { type: 'string' },
    out: { type: 'string' },
    device: { type: 'string', default: 'cpu' },
    rows: { type: 'string', default: '512' },
    length: { type: 'string', default: '448' },
    steps: { type: 'string', default: '1000000' },
    minutes: { type: 'string', default: '4' },
    temperature: { type: 'string', default: '1' },
    seed: { type: 'string', default: '31' },
  },
});
if (!values.model || !values.tokenizer || !values.out)
  throw new Error('--model, --tokenizer and --out are needed');
const device = values.device as Device;
const [rows, length, temperature] = [values.rows, values.length, values.temperature].map(Number);
const [bos, eos] = [1, 2];
const read = (name: string) => JSON.parse(readFileSync(join(values.tokenizer!, name), 'utf8'));
const tokenizer = new Tokenizer(read('tokenizer.json'), read('tokenizer_config.json'));
const teacher = readTeacher(values.model);
const numbers = random(Number(values.seed));
const weights = new Float64Array(teacher.vocabulary);

function draw(logits: Float32Array, row: number): number {
  const at = row * weights.length;
  let most = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < weights.length; i++) most = Math.max(most, logits[at + i]);
  let total = 0;
  for (let i = 0; i < weights.length; i++) {
    total += Math.exp((logits[at + i] - most) / temperature);
    weights[i] = total;
  }
  const aim = numbers.uniform() * total;
  const drawn = weights.findIndex((sum) => sum > aim);
  return drawn < 0 ? weights.length - 1 : drawn;
}

/** A story that the length cut off ends at its last full sentence. */
function textOf(tokens: readonly number[], whole: boolean): string {
  const text = tokenizer.decode([...tokens], { skip_special_tokens: true }).trim();
  return whole
    ? text
    : text.slice(0, Math.max(...['.', '!', '?', '"'].map((end) => text.lastIndexOf(end))) + 1);
}

const headSize = teacher.hidden / teacher.heads;
const caches: string[] = [];
let cache: Record<string, Tensor> = {};
for (let layer = 0; layer < teacher.layers.length; layer++) {
  const shapes = { keys: [headSize, length], values: [length, headSize] };
  for (const [name, shape] of Object.entries(shapes)) {
    const all = [rows, teacher.keyValueHeads, ...shape];
    caches.push(`${name}.${layer}`);
    cache[`${name}.${layer}`] = tensor('float32', all, new Float32Array(all.reduce((a, b) => a * b)));
  }
}
const session = await openSession(teacherStep(teacher, rows, length), {
  device,
  keep: caches.map((name) => `next/${name}`),
});
const stories: string[] = [];
const running = Array.from({ length: rows }, () => [bos]);
let characters = 0;
let steps = 0;
const started = performance.now();
const minutes = () => (performance.now() - started) / 60000;
for (; steps < Number(values.steps) && minutes() < Number(values.minutes); steps++) {
  const positions = running.map((tokens) => tokens.length - 1);
  const outputs = await session.run({
    ...cache,
    ids: tensor(
      'int64',
      [rows, 1],
      BigInt64Array.from(running, (tokens) => BigInt(tokens.at(-1)!)),
    ),
    positions: tensor('int64', [rows, 1], BigInt64Array.from(positions, BigInt)),
    at: tensor('int32', [rows, 1, 1, 1], Int32Array.from(positions)),
  });
  const old = cache;
  cache = Object.fromEntries(caches.map((name) => [name, outputs[`next/${name}`]]));
  for (const each of Object.values(old)) if (each.location === 'gpu-buffer') each.dispose();
  for (const [row, tokens] of running.entries()) {
    const token = draw(outputs.logits.data as Float32Array, row);
    const ended = token === bos || token === eos;
    if (!ended && tokens.length < length) tokens.push(token);
    else {
      const text = textOf(tokens, ended);
      if (text.length > 0) stories.push(text);
      characters += text.length;
      running[row] = [bos];
    }
  }
  if (steps % 500 === 499)
    console.log(`${minutes().toFixed(2)} min: ${stories.length} stories, ${characters} characters`);
}
writeFileSync(values.out, gzipSync(stories.map((story) => `${story}\n${separator}\n`).join('')));
console.log(
  `${steps} steps, ${stories.length} stories, ${characters} characters in ${minutes().toFixed(2)} min`,
);
console.log(stories.slice(-3).join('\n---\n'));
