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
import { elementCount, stored } from '../../src/base/tensor.ts';
import { Graph } from '../../src/graph/graph.ts';
import { add } from '../../src/graph/ops.ts';
import type { Device, Session, Tensor } from '../../src/graph/session.ts';
import { openSession, tensor } from '../../src/graph/session.ts';
import { separator } from './stories.ts';
import { chunkName, chunkShapes, readTeacher, teacherStep } from './teacher.ts';

const { values } = parseArgs({
  options: {
    model: { type: 'string' },
    tokenizer: { type: 'string' },
    out: { type: 'string' },
    device: { type: 'string', default: 'cpu' },
    rows: { type: 'string', default: '2048' },
    chunks: { type: 'string', default: '14' },
    span: { type: 'string', default: '32' },
    steps: { type: 'string', default: '1000000' },
    minutes: { type: 'string', default: '4' },
    temperature: { type: 'string', default: '1' },
    seed: { type: 'string', default: '31' },
  },
});
if (!values.model || !values.tokenizer || !values.out)
  throw new Error('--model, --tokenizer and --out are needed');
const device = values.device as Device;
const temperature = Number(values.temperature);
const ring = { rows: Number(values.rows), chunks: Number(values.chunks), span: Number(values.span) };
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
  let drawn = 0;
  while (drawn < weights.length - 1 && weights[drawn] <= aim) drawn++;
  return drawn;
}

/** A story that the length cut off ends at its last full sentence. */
function textOf(tokens: readonly number[], whole: boolean): string {
  const text = tokenizer.decode([...tokens], { skip_special_tokens: true }).trim();
  return whole
    ? text
    : text.slice(0, Math.max(...['.', '!', '?', '"'].map((end) => text.lastIndexOf(end))) + 1);
}

const kinds = ['keys', 'values'] as const;
const shapes = chunkShapes(teacher, ring);
/** Makes empty chunks on the device: one that lay in memory would be sent there at every step. */
async function openEmpty(kind: 'keys' | 'values'): Promise<Session> {
  const graph = new Graph();
  const shape = shapes[kind];
  const zeros = graph.constant(stored('float32', shape, new Float32Array(elementCount(shape))));
  graph.output('empty', add(zeros, graph.input('zero', 'float32', [1])));
  return openSession(graph, { device, keep: ['empty'] });
}

/** A device tensor lives as long as the session that made it, so that these are released last. */
const makers = { keys: await openEmpty('keys'), values: await openEmpty('values') };
/** Chunks of the ring, by kind and layer; the engine's tensors, which stay where they are made. */
const held = new Map<string, Tensor[]>();
for (const kind of kinds) {
  for (const layer of teacher.layers.keys()) {
    const chunks: Tensor[] = [];
    const zero = tensor('float32', [1], Float32Array.of(0));
    while (chunks.length < ring.chunks) chunks.push((await makers[kind].run({ zero })).empty);
    held.set(chunkName(kind, layer, 'active'), chunks);
  }
}
const session = await openSession(teacherStep(teacher, ring), {
  device,
  keep: [...held.keys()].map((name) => `next/${name}`),
});
const length = ring.chunks * ring.span;
/** The step at which each slot of the ring was written; never, at first. */
const written = new Int32Array(length).fill(-1);
const running = Array.from({ length: ring.rows }, () => [bos]);
const begins = new Int32Array(ring.rows);

async function stepOnce(step: number): Promise<Float32Array> {
  const slot = step % length;
  const active = Math.floor(slot / ring.span);
  written[slot] = step;
  // The active chunk comes last; the order of the others does not matter to attention.
  const order = [...Array(ring.chunks).keys()].filter((chunk) => chunk !== active);
  const steps = new Int32Array(length);
  for (const [i, chunk] of [...order, active].entries()) {
    steps.set(written.subarray(chunk * ring.span, (chunk + 1) * ring.span), i * ring.span);
  }
  const feeds: Record<string, Tensor> = {
    ids: tensor(
      'int64',
      [ring.rows, 1],
      BigInt64Array.from(running, (tokens) => BigInt(tokens.at(-1)!)),
    ),
    positions: tensor(
      'int64',
      [ring.rows, 1],
      BigInt64Array.from(running, ({ length }) => BigInt(length - 1)),
    ),
    slot: tensor('int32', [1], Int32Array.of(slot % ring.span)),
    steps: tensor('int32', [1, 1, 1, length], steps),
    begin: tensor('int32', [ring.rows, 1, 1, 1], begins),
  };
  for (const [name, chunks] of held) {
    for (const [i, chunk] of order.entries()) feeds[name.replace('active', String(i))] = chunks[chunk];
    feeds[name] = chunks[active];
  }
  const outputs = await session.run(feeds);
  for (const [name, chunks] of held) {
    if (chunks[active].location === 'gpu-buffer') chunks[active].dispose();
    chunks[active] = outputs[`next/${name}`];
  }
  return outputs.logits.data as Float32Array;
}

const stories: string[] = [];
let characters = 0;
let step = 0;
const started = performance.now();
const minutes = () => (performance.now() - started) / 60000;
for (; step < Number(values.steps) && minutes() < Number(values.minutes); step++) {
  const logits = await stepOnce(step);
  for (const [row, tokens] of running.entries()) {
    const token = draw(logits, row);
    const ended = token === bos || token === eos;
    if (!ended && tokens.length < length) {
      tokens.push(token);
      continue;
    }
    const text = textOf(tokens, ended);
    if (text.length > 0) stories.push(text);
    characters += text.length;
    running[row] = [bos];
    begins[row] = step + 1;
  }
  if (step % 100 === 99)
    console.log(
      `step ${step + 1}, ${minutes().toFixed(2)} min: ${stories.length} stories, ${characters} characters`,
    );
}
for (const each of [session, makers.keys, makers.values]) await each.release();
writeFileSync(values.out, gzipSync(stories.map((story) => `${story}\n${separator}\n`).join('')));
console.log(
  `${step} steps, ${stories.length} stories, ${characters} characters in ${minutes().toFixed(2)} min`,
);
console.log(stories.slice(-3).join('\n---\n'));
