/** The architectures, and the way from a checkpoint to a model. */

import { LapidaryError, located } from '../base/errors.ts';
import { quoted } from '../base/json.ts';
import type { Stored } from '../base/tensor.ts';
import { byteLength, rowsOf } from '../base/tensor.ts';
import { dense } from '../encodings/dense.ts';
import type { Encoding } from '../encodings/encoding.ts';
import { Graph } from '../graph/graph.ts';
import { architectures } from './architectures/index.ts';
import { buildWhole, plainScope } from './build.ts';
import { checkClass, unknownFix } from './class-name.ts';
import { exitOf } from './exits.ts';
import { withOwnHead } from './head.ts';
import { checkLeftover } from './leftover.ts';
import type { Architecture, Model } from './model.ts';
import { readQuantized } from './quantized/index.ts';
import type { Json } from './settings.ts';
import { withSpecialIds } from './special-ids.ts';

export { architectures };

/** @throws LapidaryError on a model_type that is not known, with the list of those that are. */
export function findArchitecture(json: Json, source?: string): Architecture {
  const found = architectures.find(({ modelType }) => modelType === json.model_type);
  if (found) return found;
  throw new LapidaryError({
    what: 'this architecture is not known',
    where: `${source === undefined ? '' : `${source}, `}config.json, "model_type"`,
    expected: architectures.map(({ modelType }) => modelType).join(', '),
    found: quoted(json.model_type),
    fix: unknownFix(json),
  });
}

/** What `loadModel` needs of a checkpoint. */
export interface Weights {
  readonly source: string;
  readonly json: Json;
  readonly tensors: ReadonlyMap<string, Stored>;
  /** Matrices that are encoded already, by name without ".weight"; as [out, in] whatever the architecture stores. */
  readonly encodings?: ReadonlyMap<string, Encoding>;
  readonly files: Model['files'];
}

/**
 * A checkpoint as a model, of dense matrices or of the encodings that it is quantized in. The architecture is built once without running it, so that every tensor
 * it asks for is known to be there in the right shape; dense tensors are read only where a head may be the embedding's copy.
 * @param warn told in one line what a reader must know: tensors that nothing uses, settings that nobody honours
 * @throws LapidaryError on a missing or misshapen tensor, by name, on one that must not be left out, on a configuration that
 *   cannot be honoured, and on what is no causal language model
 */
export function loadModel(checkpoint: Weights, warn: (line: string) => void = () => {}): Model {
  const { source, files } = checkpoint;
  const json = withoutNothing(checkpoint.json);
  const architecture = findArchitecture(json, source);
  const line = checkClass(source, json, architecture);
  if (line) warn(line);
  const quantized = readQuantized({ ...checkpoint, json });
  const { tensors, encodings = new Map<string, Encoding>() } = quantized ?? checkpoint;
  // No layer is without a tensor.
  const mostLayers = tensors.size + encodings.size;
  const unused = new Set([...tensors.keys(), ...encodings.keys()]);
  const find = <T>(among: ReadonlyMap<string, T>, name: string) => {
    const prefix = architecture.omittedPrefix;
    const bare = prefix && name.startsWith(prefix) ? name.slice(prefix.length) : name;
    const other = architecture.alias?.(name);
    const key = [name, bare, other].find((each) => each !== undefined && among.has(each)) ?? bare;
    unused.delete(key);
    return among.get(key);
  };
  const plain = architecture.configure(ownSettings(json, source, warn), mostLayers);
  const stored = {
    tensor: (name: string) => find(tensors, `${name}.weight`),
    encoding: (name: string) => find(encodings, name),
  };
  const config = withSpecialIds(withOwnHead(plain, architecture, stored, source, warn), files);
  const head = architecture.around(config).norm.readers[0].matrix;
  /** Of joined tensors, how many rows are taken. */
  const parts = new Map<Stored, { readonly name: string; readonly rows: number }>();
  /** A tensor, or the rows that it is of a joined one. */
  const part = (stem: string, suffix: string) => {
    const own = find(tensors, `${stem}.${suffix}`);
    const joined = own ? undefined : architecture.joined?.(stem, config);
    const whole = joined && find(tensors, `${joined.name}.${suffix}`);
    if (whole)
      parts.set(whole, { name: joined.name, rows: (parts.get(whole)?.rows ?? 0) + joined.rows.length });
    return whole ? named(joined!.name, () => rowsLater(whole, joined!.rows)) : own;
  };
  const vectors = collector((name) => {
    const at = name.lastIndexOf('.');
    return part(name.slice(0, at), name.slice(at + 1));
  });
  const matrices = collector((name): Encoding | undefined => {
    const encoding = stored.encoding(name);
    if (encoding) return encoding;
    const tensor = part(name, 'weight');
    if (tensor)
      return named(name, () => dense(architecture.transposed?.(name) ? transposed(tensor) : tensor));
    // What an exit shares with the last head is stored once.
    return exitOf(config, name) === undefined ? undefined : matrices.get(head);
  });
  const graph = new Graph('inputs');
  const scope = plainScope(graph, config, { matrices, vectors }, { time: 'time', longest: 1 });
  buildWhole(architecture, scope, graph.input('ids', 'int64', ['batch', 'time']), { exits: true });
  for (const [{ shape }, { name, rows }] of parts)
    if (shape[0] !== rows)
      throw new LapidaryError({
        what: 'a tensor has another shape than config.json says',
        where: name,
        expected: `[${[rows, ...shape.slice(1)].join(', ')}]`,
        found: `[${shape.join(', ')}]`,
        fix: 'check that config.json belongs to these weights',
      });
  const used = new Set([
    ...matrices.found.keys(),
    ...[...vectors.found.keys()].map((name) => name.slice(0, name.lastIndexOf('.'))),
  ]);
  const left = {
    source,
    architecture,
    config,
    unused: [...unused],
    used,
    tensor: (name: string) => tensors.get(name),
  };
  checkLeftover(left).forEach(warn);
  return { architecture, config, matrices: matrices.found, vectors: vectors.found, files, source };
}

/** Settings of quantization that are null are as if they were not there. */
function withoutNothing(json: Json): Json {
  const isNothing = ([key, value]: [string, unknown]) =>
    value === null && (key === 'quantization_config' || key === 'quantization');
  return Object.fromEntries(Object.entries(json).filter((entry) => !isNothing(entry)));
}

/** What is written again says itself how it is quantized; and layers of different sizes, which no such model is built with. */
function ownSettings(json: Json, source: string, warn: (line: string) => void): Json {
  const { quantization_config: _, quantization: __, per_layer_config: layers, ...own } = json;
  if (layers !== undefined && layers !== null)
    warn(
      `${source}: "per_layer_config" in config.json is honoured neither here nor by transformers for this architecture: every layer is taken whole, and it is not written again`,
    );
  return own;
}

/** Looks things up and keeps what it gave. */
function collector<T>(find: (name: string) => T | undefined) {
  const found = new Map<string, T>();
  const get = (name: string) => {
    const value = found.get(name) ?? find(name);
    if (value !== undefined) found.set(name, value);
    return value;
  };
  return { found, get };
}

/** Encodings know a tensor, not its name. */
function named<T>(name: string, make: () => T): T {
  try {
    return make();
  } catch (error) {
    throw located(`${name}.weight`, error);
  }
}

/** Some rows, read each time. */
function rowsLater(tensor: Stored, rows: readonly number[]): Stored {
  const [all, ...rest] = tensor.shape;
  const most = Math.max(...rows);
  if (most >= all)
    throw new LapidaryError({
      what: 'a tensor has fewer rows than config.json says',
      expected: `more than ${most}`,
      found: `[${tensor.shape.join(', ')}]`,
      fix: 'check that config.json belongs to these weights',
    });
  const shape = [rows.length, ...rest];
  const bytes = () => rowsOf(tensor, rows).bytes();
  return { dtype: tensor.dtype, shape, byteLength: byteLength(tensor.dtype, shape), bytes };
}

/** [in, out] as [out, in], turned each time the bytes are read. */
export function transposed(tensor: Stored): Stored {
  if (tensor.shape.length !== 2) return tensor;
  const [rows, columns] = tensor.shape;
  const shape = [columns, rows];
  const bytes = () => {
    const from = tensor.bytes();
    const size = from.byteLength / (rows * columns);
    const to = new Uint8Array(from.byteLength);
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const [source, target] = [(row * columns + column) * size, (column * rows + row) * size];
        for (let i = 0; i < size; i++) to[target + i] = from[source + i];
      }
    }
    return to;
  };
  return { dtype: tensor.dtype, shape, byteLength: byteLength(tensor.dtype, shape), bytes };
}
