/**
 * Trains pebble with Lapidary's own graph, gradient and optimizer.
 *
 *   npx tsx scripts/pebble/train.ts --tokens tokens.u16 --out DIR --device webgpu --steps 2150
 *
 * `--from model.safetensors` goes on from trained weights instead, with new moments and a new schedule.
 * Writes DIR/model.safetensors (float32) and DIR/log.jsonl; `finish.ts` makes the files that ship out of them.
 */

import { appendFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { Device, Feeds, Session } from '../../src/graph/session.ts';
import { openSession, tensor } from '../../src/graph/session.ts';
import { forWebGpu } from '../../src/graph/webgpu.ts';
import { openSafetensors } from '../../src/io/safetensors/read.ts';
import { writeSafetensors } from '../../src/io/safetensors/write.ts';
import { wholeGraph } from '../../src/models/build.ts';
import { loadModel } from '../../src/models/index.ts';
import type { Model } from '../../src/models/model.ts';
import type { Trainer } from '../../src/train/loop.ts';
import { train } from '../../src/train/loop.ts';
import { crossEntropy } from '../../src/train/loss.ts';
import { linearSchedule } from '../../src/train/schedule.ts';
import type { Sizes } from './initial.ts';
import { initialWeights } from './initial.ts';
import { documentsOf, rows } from './rows.ts';

const { values } = parseArgs({
  options: {
    config: { type: 'string', default: 'models/pebble/config.json' },
    tokens: { type: 'string' },
    out: { type: 'string' },
    device: { type: 'string', default: 'cpu' },
    threads: { type: 'string' },
    steps: { type: 'string', default: '2600' },
    batch: { type: 'string', default: '32' },
    time: { type: 'string', default: '512' },
    rate: { type: 'string', default: '2e-3' },
    warmup: { type: 'string', default: '100' },
    decay: { type: 'string', default: '0.1' },
    seed: { type: 'string', default: '1' },
    from: { type: 'string' },
    'held-out': { type: 'string', default: '500' },
    every: { type: 'string', default: '200' },
    minutes: { type: 'string', default: '1000' },
  },
});
if (!values.tokens || !values.out) throw new Error('--tokens FILE and --out DIR are needed');
const device = values.device as Device;
const [batch, time, steps, seed] = [values.batch, values.time, values.steps, values.seed].map(Number);
const json = JSON.parse(readFileSync(values.config, 'utf8'));
const bytes = readFileSync(values.tokens);
const tokens = new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 2);
const documents = documentsOf(tokens, json.bos_token_id);
const heldOut = documents.slice(-Number(values['held-out']));
const text = documents.slice(0, -Number(values['held-out']));

/** Inputs for one step: every row predicts its own next tokens. */
function feedsOf(chosen: readonly Uint16Array[]): Feeds {
  const ids = new BigInt64Array(chosen.length * time);
  const targets = new Int32Array(chosen.length * time);
  for (const [r, row] of chosen.entries()) {
    for (let t = 0; t < time; t++) {
      ids[r * time + t] = BigInt(row[t]);
      targets[r * time + t] = row[t + 1];
    }
  }
  const shape = [chosen.length, time];
  return { ids: tensor('int64', shape, ids), targets: tensor('int32', shape, targets) };
}

function* batches(from: readonly Uint16Array[], rowSeed: number): Generator<Feeds> {
  let chosen: Uint16Array[] = [];
  for (const row of rows(from, time + 1, rowSeed)) {
    chosen.push(row);
    if (chosen.length < batch) continue;
    yield feedsOf(chosen);
    chosen = [];
  }
}

function lossGraph(model: Model) {
  const { graph, logits } = wholeGraph(model, { weightsAs: 'inputs', batch, time });
  return { graph, loss: crossEntropy(logits, graph.input('targets', 'int32', [batch, time])) };
}

async function openEvaluation(model: Model): Promise<Session> {
  const { graph, loss } = lossGraph(model);
  graph.output('loss', loss);
  return openSession(device === 'webgpu' ? forWebGpu(graph) : graph, {
    device,
    ...(values.threads ? { threads: Number(values.threads) } : {}),
  });
}

/** Mean loss on some batches of stories that are not trained on. */
async function evaluate(session: Session, trainer: Trainer): Promise<number> {
  const few = batches(heldOut, 0);
  let sum = 0;
  const count = Math.max(1, Math.floor(65536 / (batch * time)));
  for (let i = 0; i < count; i++) {
    const { loss } = await session.run({ ...few.next().value, ...trainer.feeds() });
    sum += Number(loss.data[0]);
  }
  return sum / count;
}

mkdirSync(values.out, { recursive: true });
const log = join(values.out, 'log.jsonl');
writeFileSync(log, '');
const model = loadModel({
  source: 'pebble',
  json,
  tensors: values.from ? openSafetensors(values.from).tensors : initialWeights(json as Sizes, seed),
  files: new Map(),
});
const evaluation = await openEvaluation(model);
const controller = new AbortController();
const started = performance.now();
const rate = linearSchedule({ peak: Number(values.rate), warmup: Number(values.warmup), steps });
const save = (weights: Awaited<ReturnType<Trainer['weights']>>) =>
  writeSafetensors(join(values.out!, 'model.safetensors'), weights);
let recent: number[] = [];

const { weights } = await train(lossGraph(model).loss, {
  device,
  ...(values.threads ? { threads: Number(values.threads) } : {}),
  steps,
  rate,
  batches: batches(text, seed),
  adam: { weightDecay: Number(values.decay) },
  signal: controller.signal,
  async onStep({ step, loss, norm }, trainer) {
    recent.push(loss);
    const seconds = (performance.now() - started) / 1000;
    if (seconds > 60 * Number(values.minutes)) controller.abort();
    if (step !== 1 && step % Number(values.every) !== 0 && step !== steps) return;
    const mean = recent.reduce((sum, each) => sum + each, 0) / recent.length;
    recent = [];
    const held = await evaluate(evaluation, trainer);
    const line = {
      step,
      tokens: step * batch * time,
      seconds: Math.round(seconds),
      loss: mean,
      heldOut: held,
      norm,
    };
    appendFileSync(log, `${JSON.stringify(line)}\n`);
    console.log(JSON.stringify(line));
    if (step % (5 * Number(values.every)) === 0) await save(await trainer.weights());
  },
});
await save(new Map(weights));
await evaluation.release();
console.log(`done in ${Math.round((performance.now() - started) / 1000)} s`);
