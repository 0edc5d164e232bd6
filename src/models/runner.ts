/**
 * Runs a model part by part: embedding, one block at a time, head. Calibration and evaluation both go this way, so
 * memory holds one block's weights and the hidden states, whatever the model's size. On the CPU weights are inputs of
 * the graphs, in float32 whatever they are encoded as, and equal blocks share one session.
 *
 * Sequences begin at position 0. Shorter ones may be padded on the right without a mask: attention is causal, so
 * padding never reaches what stands before it.
 */

import { createHash } from 'node:crypto';
import { LapidaryError } from '../base/errors.ts';
import type { Value } from '../graph/graph.ts';
import { Graph } from '../graph/graph.ts';
import { encodeModel } from '../graph/onnx.ts';
import type { Feeds, Outputs, Session, SessionOptions, Tensor } from '../graph/session.ts';
import { feedsOf, openSession, tensor } from '../graph/session.ts';
import { blockGraph, plainScope } from './build.ts';
import type { Cut, Kept } from './cut.ts';
import { sliceAt } from './cut.ts';
import { exitName } from './exits.ts';
import type { Model } from './model.ts';
import type { RecordingScope, WeightSource } from './scope.ts';

export interface RunnerOptions extends Pick<SessionOptions, 'device' | 'threads'> {
  /** The longest sequence that will be run, in tokens; the model's context without it. */
  readonly longest?: number;
  /** All sessions are as `temporary` ones, for those who need the memory between two parts. */
  readonly temporary?: boolean;
}

/** A part's graph while it is built, for those who add nodes, inputs and outputs of their own. */
export interface Part {
  readonly graph: Graph;
  readonly scope: RecordingScope;
  /** Ids int64 [batch, time] for the embedding, else hidden states [batch, time, hidden]. */
  readonly input: Value;
  /** Hidden states, or logits [batch, time, vocabulary] for the head. */
  readonly output: Value;
}

export interface PartOptions {
  /** Weights to run with instead of the model's: compressed ones, of the same plan. */
  readonly weights?: WeightSource | undefined;
  readonly extend?: ((part: Part) => void) | undefined;
  /** Only the outputs of the extension, and nothing computed that these do not need. */
  readonly extensionOnly?: boolean | undefined;
  /** Its session is not kept for equal parts: the memory that it ran in is given back with the stage. */
  readonly temporary?: boolean | undefined;
  /** A slice alone, which is fed what the slice before has kept; the first "x". */
  readonly cut?: Cut | undefined;
}

/** A part with its weights in place. */
export interface Stage {
  /**
   * Feeds "ids" for the embedding and "x", hidden states, for the others, besides the inputs of an extension; gives "hidden", or
   * "logits" for the head, besides the outputs of an extension.
   * @param outputs the ones wanted, all without it: logits that nobody reads need not be copied out
   */
  run(feeds: Feeds, outputs?: readonly string[] | Outputs): Promise<Record<string, Tensor>>;
  /** Of a slice: what the next is fed. */
  readonly kept: readonly Kept[];
  /** Lets go of what only this stage holds. */
  release(): Promise<void>;
}

export interface Runner {
  readonly model: Model;
  embed(options?: PartOptions): Promise<Stage>;
  block(layer: number, options?: PartOptions): Promise<Stage>;
  /** The last head, or the one behind a layer before. */
  head(options?: PartOptions & { readonly exit?: number | undefined }): Promise<Stage>;
  /** Names of a block's linear layers, in the order they run, those that are fed the same together. */
  linears(layer: number): readonly (readonly string[])[];
  release(): Promise<void>;
}

/**
 * Opens nothing yet: sessions are made with the first part that needs them.
 * @throws LapidaryError where sequences are longer than the model's context
 */
export function openRunner(model: Model, options: RunnerOptions = {}): Runner {
  const { architecture, config } = model;
  const { longest = config.context, temporary = false, ...session } = options;
  if (longest > config.context) {
    throw new LapidaryError({
      what: 'the sequences are longer than the model can see',
      where: model.source,
      expected: `at most ${config.context} tokens`,
      found: `${longest}`,
    });
  }
  const sessions = new Map<string, Promise<Session>>();
  const open = (plan: PartPlan, part: PartOptions = {}) =>
    openStage({ model, session, longest, sessions }, plan, {
      ...part,
      temporary: temporary || part.temporary,
    });
  return {
    model,
    embed: (part) => open({ input: 'ids', build: architecture.embed, output: 'hidden' }, part),
    block: (layer, part) => {
      const prefix = `${architecture.layerName(layer)}.`;
      const build: PartPlan['build'] = (scope, x) => architecture.block(scope, x, layer);
      return open({ prefix, input: 'x', build, output: 'hidden' }, part);
    },
    head: ({ exit, ...part } = {}) => {
      const prefix = exit === undefined ? '' : `${exitName(exit)}.`;
      const build: PartPlan['build'] = (scope, x) => architecture.head(scope, x, exit);
      return open({ prefix, input: 'x', build, output: 'logits' }, part);
    },
    linears: (layer) => {
      const { scope } = blockGraph(model, layer, longest);
      const byInput = new Map<Value, string[]>();
      for (const [name, { input }] of scope.linears)
        byInput.set(input, [...(byInput.get(input) ?? []), name]);
      return [...byInput.values()];
    },
    release: async () => {
      for (const opened of sessions.values()) await (await opened).release();
      sessions.clear();
    },
  };
}

interface PartPlan {
  /** Of the part's weights, left out of their names so that equal blocks are equal graphs. */
  readonly prefix?: string;
  readonly input: 'ids' | 'x';
  readonly output: 'hidden' | 'logits';
  readonly build: (scope: RecordingScope, x: Value) => Value;
}

interface Opened {
  readonly model: Model;
  readonly session: SessionOptions;
  readonly longest: number;
  /** By the hash of their graph. */
  readonly sessions: Map<string, Promise<Session>>;
}

async function openStage(
  { model, session: options, longest, sessions }: Opened,
  { prefix = '', input, output: name, build }: PartPlan,
  { weights = model, extend, extensionOnly = false, temporary = false, cut }: PartOptions,
): Promise<Stage> {
  const onGpu = options.device === 'webgpu';
  const whole = new Graph(onGpu ? 'initializers' : 'inputs');
  const x =
    input === 'ids'
      ? whole.input('ids', 'int64', ['batch', 'time'])
      : whole.input('x', 'float32', ['batch', 'time', model.config.hidden]);
  const scope = plainScope(whole, model.config, weights, { time: 'time', longest, prefix });
  const output = build(scope, x);
  if (!extensionOnly && !cut) whole.output(name, output);
  extend?.({ graph: whole, scope, input: x, output });
  const { graph, kept } = cut
    ? sliceAt({ graph: whole, scope, input: x, end: { name, value: output } }, cut)
    : { graph: whole, kept: [] };
  // What a first slice is fed may be all that it keeps.
  if (graph.outputs.length === 0) return { kept, run: async () => ({}), release: async () => undefined };
  // A GPU gets its weights once with the session: feeding them at each run would cost more than the run.
  if (onGpu) return { ...(await openSession(graph, options)), kept };
  const bytes = encodeModel(graph);
  const key = createHash('sha256').update(bytes).digest('hex');
  const opening = (temporary ? undefined : sessions.get(key)) ?? openSession(bytes, options);
  if (!temporary) sessions.set(key, opening);
  const session = await opening;
  let placed = feedsOf(graph.weights);
  return {
    kept,
    run: (feeds, outputs) => session.run({ ...placed, ...feeds }, outputs),
    release: async () => {
      placed = {};
      if (temporary) await session.release();
    },
  };
}

/**
 * Ids to feed, int64 [sequences, longest of them]; shorter ones are padded on the right with id 0.
 * @throws LapidaryError on an id outside the vocabulary
 */
export function idsTensor(sequences: readonly ArrayLike<number>[], vocabulary: number): Tensor {
  const time = Math.max(...sequences.map(({ length }) => length));
  const ids = new BigInt64Array(sequences.length * time);
  sequences.forEach((sequence, row) => {
    for (let i = 0; i < sequence.length; i++) {
      const id = sequence[i];
      if (!Number.isInteger(id) || id < 0 || id >= vocabulary) {
        throw new LapidaryError({
          what: 'a token id that the model does not have',
          where: `sequence ${row}, position ${i}`,
          expected: `0 to ${vocabulary - 1}`,
          found: String(id),
          fix: 'check that the tokenizer belongs to the model',
        });
      }
      ids[row * time + i] = BigInt(id);
    }
  });
  return tensor('int64', [sequences.length, time], ids);
}

/**
 * Logits [sequences, time, vocabulary] of a few short sequences, all at once; for checks, not for corpora.
 * @param options.exit those of the head behind this layer; of the last one without it
 */
export async function logits(
  model: Model,
  sequences: readonly ArrayLike<number>[],
  { exit, ...options }: RunnerOptions & { readonly exit?: number | undefined } = {},
): Promise<Tensor> {
  const ids = idsTensor(sequences, model.config.vocabulary);
  const runner = openRunner(model, { ...options, longest: options.longest ?? (ids.dims[1] as number) });
  const through = async (opening: Promise<Stage>, feeds: Feeds) => {
    const stage = await opening;
    const outputs = await stage.run(feeds);
    await stage.release();
    return outputs;
  };
  try {
    let { hidden } = await through(runner.embed(), { ids });
    const layers = exit === undefined ? model.config.layers.length : exit + 1;
    for (let layer = 0; layer < layers; layer++) {
      ({ hidden } = await through(runner.block(layer), { x: hidden }));
    }
    return (await through(runner.head({ exit }), { x: hidden })).logits;
  } finally {
    await runner.release();
  }
}
