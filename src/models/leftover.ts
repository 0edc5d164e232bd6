/**
 * Tensors of a checkpoint that its architecture does not use. What took part in the computation when the model was trained must
 * not be left out silently, since the answers would change.
 */

import { LapidaryError } from '../base/errors.ts';
import { toFloat32 } from '../base/half.ts';
import type { Stored } from '../base/tensor.ts';
import type { Architecture, Configuration } from './model.ts';

export interface Leftover {
  readonly source: string;
  readonly architecture: Architecture;
  readonly config: Configuration;
  /** Names of what nothing uses, and of what is used, without their last part. */
  readonly unused: readonly string[];
  readonly used: ReadonlySet<string>;
  /** Undefined for matrices that are encoded already. */
  tensor(name: string): Stored | undefined;
}

/**
 * @returns lines for who is about to use the model
 * @throws LapidaryError on tensors inside of layers, beside those that are used, and norms
 */
export function checkLeftover(leftover: Leftover): readonly string[] {
  const { source, architecture, config, unused } = leftover;
  const names = unused.filter((name) => !architecture.computed?.(name) && !isZeroBias(leftover, name));
  const beyond = names.filter((name) => (layerOf(architecture, name) ?? -1) >= config.layers.length);
  const others = names.filter((name) => !beyond.includes(name));
  const needed = others.filter((name) => changesAnswers(leftover, name));
  if (needed.length > 0) throw refused(leftover, needed);
  const lines: string[] = [];
  if (beyond.length > 0)
    lines.push(
      `${source}: config.json says ${config.layers.length} layers, and the file has more (${listed(beyond)}): they are left out, as transformers leaves them out`,
    );
  if (others.length > 0) lines.push(`${source}: nothing uses ${listed(others)}`);
  return lines;
}

/** GGUF's names of layers stay where we have none for the tensor. */
const ggufLayers = 'blk.';

function layerOf({ layerName, omittedPrefix = '' }: Architecture, name: string): number | undefined {
  const layers = layerName(0).slice(0, -1);
  const prefix = [layers, layers.slice(omittedPrefix.length), ggufLayers].find((each) =>
    name.startsWith(each),
  );
  const found = prefix === undefined ? undefined : /^(\d+)\./.exec(name.slice(prefix.length));
  return found ? Number(found[1]) : undefined;
}

const stemOf = (name: string): string => name.slice(0, Math.max(0, name.lastIndexOf('.')));

/** GPTQ's own tools write a bias beside every matrix, of zeros where the model has none. */
function isZeroBias({ used, tensor }: Leftover, name: string): boolean {
  const stored = tensor(name);
  if (!name.endsWith('.bias') || !stored || !used.has(stemOf(name))) return false;
  const isFloat = ['float32', 'float16', 'bfloat16'].includes(stored.dtype);
  return isFloat && toFloat32(stored).every((value) => value === 0);
}

function changesAnswers({ architecture, used }: Leftover, name: string): boolean {
  // Scales of a cache of keys and values that is kept in small numbers.
  if (name.endsWith('_scale')) return false;
  return layerOf(architecture, name) !== undefined || used.has(stemOf(name)) || /norm|\bln_/i.test(name);
}

function refused({ source, architecture }: Leftover, names: readonly string[]): LapidaryError {
  const bias = names.every((name) => name.endsWith('.bias'));
  return new LapidaryError({
    what: `${architecture.modelType} as config.json describes it does not compute with ${names.length === 1 ? 'a tensor' : `${names.length} tensors`} of this checkpoint: without ${names.length === 1 ? 'it' : 'them'} the answers would be others`,
    where: source,
    expected: `the tensors of ${architecture.modelType}`,
    found: listed(names),
    fix: bias
      ? 'where the model was trained with biases, config.json must say so ("attention_bias": true, "mlp_bias": true); where not, take them out of the file'
      : 'check "model_type" in config.json; where the model was trained without these tensors, take them out of the file',
  });
}

function listed(names: readonly string[]): string {
  const more = names.length > 4 ? ` and ${names.length - 4} more` : '';
  return names.slice(0, 4).join(', ') + more;
}
