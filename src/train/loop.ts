/**
 * The training loop. Weights and moments are the engine's tensors, fed from one step's outputs into the next one's
 * inputs, so that on a GPU they stay there; they are fetched only when asked for.
 */

import { LapidaryError } from '../base/errors.ts';
import type { Progress } from '../base/progress.ts';
import { silent } from '../base/progress.ts';
import type { Stored } from '../base/tensor.ts';
import { elementCount, stored } from '../base/tensor.ts';
import type { Value } from '../graph/graph.ts';
import { Graph } from '../graph/graph.ts';
import { add } from '../graph/ops.ts';
import type { Device, Feeds, Session, Tensor } from '../graph/session.ts';
import { feedsOf, openSession, tensor, tensorOf } from '../graph/session.ts';
import type { AdamOptions } from './adam.ts';
import { adamDefaults, adamFeeds } from './adam.ts';
import { names, trainingStep } from './step.ts';

export interface TrainerOptions {
  readonly device?: Device | undefined;
  readonly threads?: number | undefined;
  readonly adam?: Partial<AdamOptions> | undefined;
  /** Where to go on from: weights and moments as `state()` gave them, and the number of steps behind them. */
  readonly from?: { readonly state: ReadonlyMap<string, Stored>; readonly steps: number } | undefined;
}

export interface StepResult {
  /** Counted from 1. */
  readonly step: number;
  /** Nats. */
  readonly loss: number;
  /** Of all gradients together, before clipping. */
  readonly norm: number;
}

export interface Trainer {
  /** @throws LapidaryError when the loss is no longer a number; the weights are then as before the step. */
  step(batch: Feeds, rate: number): Promise<StepResult>;
  /** The weights as they are on the device, to be fed to other graphs there; valid until the next step. */
  feeds(): Feeds;
  /** Copies of the weights, by name. */
  weights(): Promise<Map<string, Stored>>;
  /** Copies of weights and moments, by name. */
  state(): Promise<Map<string, Stored>>;
  release(): Promise<void>;
}

/** @param loss [] in a graph whose weights are inputs; gradient and update are added to that graph. */
export async function openTrainer(loss: Value, options: TrainerOptions = {}): Promise<Trainer> {
  const adam = { ...adamDefaults, ...options.adam };
  const device = options.device ?? 'cpu';
  const { graph } = loss;
  const parameters = trainingStep(loss, adam);
  const kept = parameters.flatMap((name) => names.state(name));
  const session = await openSession(graph, {
    device,
    keep: kept.map(names.next),
    threads: options.threads,
  });
  let current: Record<string, Tensor> = initialState(graph, parameters, options.from?.state);
  let steps = options.from?.steps ?? 0;
  const copies = (wanted: readonly string[]) => fetch(device, graph, current, wanted);
  return {
    async step(batch, rate) {
      const outputs = await session.run({
        ...batch,
        ...current,
        ...scalars(adamFeeds(rate, steps + 1, adam)),
      });
      const next = Object.fromEntries(kept.map((name) => [name, outputs[names.next(name)]]));
      const [value, norm] = [names.loss, names.norm].map((name) => Number(outputs[name].data[0]));
      if (!Number.isFinite(value) || !Number.isFinite(norm)) {
        dispose(next);
        throw new LapidaryError({
          what: `training diverged at step ${steps + 1}`,
          found: `loss ${value}, gradient norm ${norm}`,
          fix: 'lower the learning rate, or lengthen its warm-up',
        });
      }
      dispose(current);
      current = next;
      steps += 1;
      return { step: steps, loss: value, norm };
    },
    feeds: () => Object.fromEntries(parameters.map((name) => [name, current[name]])),
    weights: () => copies(parameters),
    state: () => copies(kept),
    async release() {
      dispose(current);
      await session.release();
    },
  };
}

export interface TrainOptions extends TrainerOptions {
  readonly steps: number;
  /** The learning rate at a step counted from 1. */
  readonly rate: (step: number) => number;
  /** The loss graph's other inputs, for each step. */
  readonly batches: Iterable<Feeds>;
  readonly progress?: Progress | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Called after every step; what it returns is waited for. */
  readonly onStep?: ((result: StepResult, trainer: Trainer) => void | Promise<void>) | undefined;
}

export interface Trained {
  readonly weights: ReadonlyMap<string, Stored>;
  /** Of every step taken, in nats. */
  readonly losses: readonly number[];
}

/** Trains all weights of the loss's graph for a number of steps; ends earlier where the batches or the signal do. */
export async function train(loss: Value, options: TrainOptions): Promise<Trained> {
  const { steps, rate, batches, progress = silent, signal, onStep } = options;
  const trainer = await openTrainer(loss, options);
  const losses: number[] = [];
  let done = options.from?.steps ?? 0;
  try {
    for (const batch of batches) {
      if (done >= steps || signal?.aborted) break;
      const result = await trainer.step(batch, rate(done + 1));
      done = result.step;
      losses.push(result.loss);
      progress({ phase: 'train', done, total: steps, detail: `loss ${result.loss.toFixed(3)}` });
      await onStep?.(result, trainer);
    }
    return { weights: await trainer.weights(), losses };
  } finally {
    await trainer.release();
  }
}

function initialState(
  graph: Graph,
  parameters: readonly string[],
  from: ReadonlyMap<string, Stored> | undefined,
): Record<string, Tensor> {
  const state: Record<string, Tensor> = feedsOf(graph.weights);
  for (const parameter of parameters) {
    const { shape } = graph.weights.get(parameter)!.value;
    const sizes = shape as readonly number[];
    for (const name of names.state(parameter)) {
      const given = from?.get(name);
      if (given) state[name] = tensorOf(given);
      else state[name] ??= tensor('float32', sizes, new Float32Array(elementCount(sizes)));
    }
  }
  return state;
}

function scalars(numbers: Record<string, Float32Array>): Feeds {
  return Object.fromEntries(
    Object.entries(numbers).map(([name, data]) => [name, tensor('float32', [], data)]),
  );
}

/** Frees what lies on a device now rather than when it is collected; what lies in memory may be the caller's. */
function dispose(tensors: Feeds): void {
  for (const each of Object.values(tensors)) if (each.location === 'gpu-buffer') each.dispose();
}

/** Tensors read from where they are: a graph that adds an input, zero, which the engine cannot leave out. */
async function fetch(device: Device, graph: Graph, from: Feeds, wanted: readonly string[]) {
  const copying = new Graph('inputs');
  const zero = copying.input('zero', 'float32', []);
  for (const name of wanted) {
    const { shape } = graph.inputs.find((input) => input.name === name)!;
    copying.output(names.next(name), add(copying.input(name, 'float32', shape), zero));
  }
  const session: Session = await openSession(copying, { device });
  try {
    const feeds = Object.fromEntries(wanted.map((name) => [name, from[name]]));
    const outputs = await session.run({ ...feeds, ...scalars({ zero: Float32Array.of(0) }) });
    return new Map(
      wanted.map((name) => {
        const { data, dims } = outputs[names.next(name)];
        return [name, stored('float32', dims, data as Float32Array)];
      }),
    );
  } finally {
    await session.release();
  }
}
