/** Runs graphs: the one place that knows the engine (ONNX Runtime, native CPU code or WebGPU). */

import * as ort from 'onnxruntime-node';
import { LapidaryError } from '../base/errors.ts';
import { namedThreads } from '../base/threads.ts';
import type { DType, Stored } from '../base/tensor.ts';
import { forCpu } from './cpu.ts';
import { Graph } from './graph.ts';
import { encodeInPieces } from './onnx.ts';
import { forWebGpu } from './webgpu.ts';

/** The engine's tensor: `type`, `dims`, `data` (a typed array; float16 as Uint16Array, int64 as BigInt64Array). */
export type Tensor = ort.Tensor;
export type Feeds = Readonly<Record<string, Tensor>>;
/** Outputs that are wanted, each with the tensor that it is written into; null for a fresh one. */
export type Outputs = Readonly<Record<string, Tensor | null>>;
export type Device = 'cpu' | 'webgpu';

export interface SessionOptions {
  readonly device?: Device | undefined;
  /** Threads of one operator on the CPU; without it what OMP_NUM_THREADS says, else one for each core. */
  readonly threads?: number | undefined;
  /** Whether idle threads keep a core busy for a while, to answer sooner; not where others want the core between runs. */
  readonly spinning?: boolean | undefined;
  /** Outputs that stay on the device, to be fed back; their values cannot be read. */
  readonly keep?: readonly string[] | undefined;
  /** How far the engine rewrites the graph; without it, all the way. */
  readonly optimize?: 'disabled' | 'basic' | 'extended' | 'all' | undefined;
}

export interface Description {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly (number | string)[];
}

export interface Session {
  readonly inputs: readonly Description[];
  readonly outputs: readonly Description[];
  /** @param outputs the ones wanted, by name or with the tensors to write them into; all of them without it */
  run(feeds: Feeds, outputs?: readonly string[] | Outputs): Promise<Record<string, Tensor>>;
  release(): Promise<void>;
}

/** Above this, weights are handed to the engine one by one: a protobuf ends at 2 GiB, and copies cost. */
const inlineLimit = 64 * 2 ** 20;
const pieceSize = 2 ** 20;

/**
 * Loads a graph, rewritten for the device, a file (with its external data beside it) or a model's bytes.
 * @throws LapidaryError where the engine refuses it
 */
export async function openSession(
  source: Graph | string | Uint8Array,
  options: SessionOptions = {},
): Promise<Session> {
  const threads = options.threads ?? namedThreads();
  const settings: ort.InferenceSession.SessionOptions = {
    executionProviders: [options.device ?? 'cpu'],
    graphOptimizationLevel: options.optimize ?? 'all',
    logSeverityLevel: 3,
    // Patterns keep a second copy of what a run takes, in one piece: nothing is faster for it here.
    enableMemPattern: false,
    ...(threads === undefined ? {} : { intraOpNumThreads: threads }),
    ...(options.spinning === false ? { extra: { session: { intra_op: { allow_spinning: '0' } } } } : {}),
    ...(options.keep && options.device === 'webgpu'
      ? {
          preferredOutputLocation: Object.fromEntries(
            options.keep.map((name) => [name, 'gpu-buffer' as const]),
          ),
        }
      : {}),
  };
  try {
    const suited = source instanceof Graph ? forDevice(source, options.device) : source;
    return wrap(await create(suited, settings));
  } catch (cause) {
    const where = typeof source === 'string' ? source : undefined;
    const fix = options.device === 'webgpu' ? 'run on the CPU, or install a driver of the GPU' : undefined;
    throw new LapidaryError({
      what: 'the engine refused the model',
      where,
      found: messageOf(cause),
      fix,
      cause,
    });
  }
}

/** The graph in operators that the device has, or has fast ones for. */
function forDevice(graph: Graph, device: Device = 'cpu'): Graph {
  return device === 'webgpu' ? forWebGpu(graph) : forCpu(graph);
}

function create(source: Graph | string | Uint8Array, settings: ort.InferenceSession.SessionOptions) {
  if (!(source instanceof Graph)) return ort.InferenceSession.create(source as string, settings);
  let total = 0;
  for (const stored of source.initializers.values()) total += stored.byteLength;
  const { model, pieces } = encodeInPieces(
    source,
    total > inlineLimit ? pieceSize : Number.POSITIVE_INFINITY,
  );
  const externalData = pieces.map(({ path, stored }) => ({ path, data: stored.bytes() }));
  return ort.InferenceSession.create(
    model,
    externalData.length > 0 ? { ...settings, externalData } : settings,
  );
}

function wrap(session: ort.InferenceSession): Session {
  return {
    inputs: session.inputMetadata.map(describe),
    outputs: session.outputMetadata.map(describe),
    async run(feeds, outputs) {
      try {
        const found = { ...(outputs ? await session.run(feeds, outputs) : await session.run(feeds)) };
        for (const tensor of Object.values(found)) asBits(tensor);
        return isPlaces(outputs) ? inPlaces(found, outputs) : found;
      } catch (cause) {
        throw new LapidaryError({
          what: 'the engine failed to run the graph',
          found: messageOf(cause),
          cause,
        });
      }
    },
    release: () => session.release(),
  };
}

const isPlaces = (outputs: readonly string[] | Outputs | undefined): outputs is Outputs =>
  outputs !== undefined && !Array.isArray(outputs);

/** The engine writes into the tensors that it is given, and hands out copies of them besides (1.30), which are let go. */
function inPlaces(found: Record<string, Tensor>, outputs: Outputs): Record<string, Tensor> {
  for (const [name, place] of Object.entries(outputs)) {
    if (place === null || found[name].location !== 'cpu') continue;
    const { buffer } = found[name].data as Float32Array;
    if (buffer !== (place.data as Float32Array).buffer) free(buffer as ArrayBuffer);
    found[name] = place;
  }
  return found;
}

const nowhere = (() => {
  const { port1, port2 } = new MessageChannel();
  port2.close();
  return port1;
})();
/** What is sent to a closed port is gone at once; the garbage collector would look through everything for each 64 MiB. */
const free = (buffer: ArrayBuffer): void => nowhere.postMessage(undefined, [buffer]);

function describe(value: ort.InferenceSession.ValueMetadata): Description {
  return value.isTensor
    ? { name: value.name, dtype: value.type, shape: value.shape }
    : { name: value.name, dtype: 'none', shape: [] };
}

const messageOf = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause));

const arrays = {
  float32: Float32Array,
  float64: Float64Array,
  float16: Uint16Array,
  int64: BigInt64Array,
  int32: Int32Array,
  int16: Int16Array,
  int8: Int8Array,
  uint8: Uint8Array,
  bool: Uint8Array,
} as const;

/** Element types that can be fed and fetched; the others live only inside graphs. */
export type TensorType = keyof typeof arrays;

/** A tensor to feed: data row-major, in the typed array of its type (float16 in Uint16Array). */
export function tensor(dtype: TensorType, shape: readonly number[], data: ort.Tensor['data']): Tensor {
  return asBits(new ort.Tensor(dtype, data as never, shape));
}

/**
 * Node 24 has a Float16Array, in which onnxruntime-common (1.30) then holds float16 whatever it was given, and whose length
 * the engine's binding takes for 0. Older ones hold the bits in a Uint16Array, which the binding reads everywhere.
 */
function asBits(tensor: Tensor): Tensor {
  if (tensor.type !== 'float16' || tensor.location !== 'cpu' || tensor.data instanceof Uint16Array)
    return tensor;
  const { buffer, byteOffset, length } = tensor.data as Float32Array;
  return Object.assign(tensor, { cpuData: new Uint16Array(buffer, byteOffset, length) });
}

/**
 * A stored tensor to feed; its bytes are shared where their alignment allows.
 * @throws LapidaryError for bfloat16 and four-bit types, which the engine takes only inside graphs
 */
export function tensorOf(stored: Stored): Tensor {
  const { dtype, shape } = stored;
  const array = arrays[dtype as TensorType];
  if (!array) {
    throw new LapidaryError({
      what: `a tensor of type ${dtype} cannot be an input`,
      expected: (Object.keys(arrays) as DType[]).join(', '),
      fix: 'widen it to float32, or make it an initializer of the graph',
    });
  }
  const view = stored.bytes();
  const aligned = view.byteOffset % array.BYTES_PER_ELEMENT === 0 ? view : view.slice();
  const data = new array(
    aligned.buffer as ArrayBuffer,
    aligned.byteOffset,
    aligned.byteLength / array.BYTES_PER_ELEMENT,
  );
  return tensor(dtype as TensorType, shape, data);
}

/** Feeds for a graph's weights, where they are inputs. */
export function feedsOf(weights: Graph['weights']): Record<string, Tensor> {
  return Object.fromEntries([...weights].map(([name, { stored }]) => [name, tensorOf(stored)]));
}
