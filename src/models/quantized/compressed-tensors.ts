/**
 * compressed-tensors, what llm-compressor writes and vLLM reads. config.json says in groups which modules are quantized and
 * how ("Linear", a name, or "re:" and an expression); each matrix has its scheme's tensors beside it.
 * https://github.com/vllm-project/compressed-tensors, release 0.20.
 */

import { withinTime } from '../../base/guard/deadline.ts';
import { isObject } from '../../base/json.ts';
import type { Encoding } from '../../encodings/encoding.ts';
import { roundedActivations } from '../../encodings/rounded.ts';
import type { Json } from '../settings.ts';
import { flag, wrongSetting } from '../settings.ts';
import { floatMatrix } from './compressed-floats.ts';
import { intMatrix } from './compressed-integers.ts';
import type { InputScheme, Scheme, WeightScheme } from './scheme.ts';
import { blockOf } from './scheme.ts';
import type { QuantizedFormat } from './format.ts';
import { refuse } from './tensors.ts';
import type { MatrixTensors } from './tensors.ts';

interface Group extends Scheme {
  readonly targets: readonly Pattern[];
}
type Pattern = { readonly name: string } | { readonly expression: RegExp };

export const compressedTensors: QuantizedFormat = {
  name: 'compressed-tensors',
  matches: ({ quantization_config: config }) =>
    isObject(config) && config.quant_method === 'compressed-tensors',
  bits({ quantization_config: config }) {
    const { config_groups: groups } = config as Json;
    const [group] = isObject(groups) ? Object.values(groups) : [];
    const weights = isObject(group) && isObject(group.weights) ? group.weights : {};
    return weights.type === 'float' ? undefined : weights.num_bits;
  },
  open({ quantization_config: config }) {
    const settings = config as Json;
    checkWhole(settings);
    const groups = readGroups(settings);
    const ignored = patterns(settings.ignore ?? [], 'ignore');
    return (name, tensors) => {
      if (!isQuantized(tensors)) return undefined;
      const found = withinTime(
        () => (ignored.some((pattern) => fits(pattern, name)) ? undefined : groupOf(groups, name)),
        'an expression of quantization_config',
        'config.json',
      );
      if (!found) refuse('config_groups', 'a group with this matrix among its targets', 'none');
      return matrix(found, tensors);
    };
  },
};

const isQuantized = (tensors: MatrixTensors): boolean =>
  tensors.has('weight_packed') || tensors.has('weight_scale');

function matrix({ weights, inputs }: Scheme, tensors: MatrixTensors): Encoding {
  if (weights.type === 'float') return floatMatrix(tensors, { weights, inputs });
  const { encoding, rounded } = intMatrix(tensors, { weights, inputs });
  return inputs && !rounded ? roundedActivations(encoding, { bits: inputs.bits }) : encoding;
}

/** What stands beside the groups: of a model that is not whole in them nothing is claimed. */
function checkWhole(settings: Json): void {
  const status = settings.quantization_status;
  if (status !== 'compressed') {
    const fix = 'save it compressed, or start from the original model';
    throw wrongSetting('quantization_config.quantization_status', '"compressed"', status, fix);
  }
  for (const key of ['sparsity_config', 'transform_config']) {
    const value = settings[key];
    const used =
      value !== undefined && value !== null && !(isObject(value) && Object.keys(value).length === 0);
    if (used && !(isObject(value) && value.format === 'dense')) {
      throw wrongSetting(`quantization_config.${key}`, 'nothing', value, 'start from the original model');
    }
  }
}

function readGroups({ config_groups: groups }: Json): Group[] {
  const key = 'quantization_config.config_groups';
  if (!isObject(groups)) throw wrongSetting(key, 'an object of groups', groups);
  return Object.entries(groups).flatMap(([name, group]) => {
    const where = `${key}.${name}`;
    if (!isObject(group)) throw wrongSetting(where, 'targets and weights', group);
    const { targets, weights, input_activations: inputs } = group;
    if (weights === undefined || weights === null) return [];
    return {
      targets: patterns(targets, `${where}.targets`),
      weights: weightScheme(weights, `${where}.weights`),
      inputs: inputScheme(inputs, `${where}.input_activations`),
    };
  });
}

function patterns(value: unknown, where: string): Pattern[] {
  if (!Array.isArray(value) || !value.every((each) => typeof each === 'string')) {
    throw wrongSetting(where, 'a list of names', value);
  }
  return value.map((each: string): Pattern => {
    if (!each.startsWith('re:')) return { name: each };
    try {
      // Matched from the start of a name, and not to its end.
      return { expression: new RegExp(`^(?:${each.slice(3)})`) };
    } catch {
      throw wrongSetting(where, 'regular expressions', each);
    }
  });
}

const fits = (pattern: Pattern, name: string): boolean =>
  'name' in pattern ? pattern.name === name : pattern.expression.test(name);

/** Names before expressions before "Linear", which is every matrix that multiplies. */
function groupOf(groups: readonly Group[], name: string): Group | undefined {
  const by = (chosen: (pattern: Pattern) => boolean) =>
    groups.find(({ targets }) => targets.some((pattern) => chosen(pattern) && fits(pattern, name)));
  return (
    by((pattern) => 'name' in pattern) ??
    by((pattern) => 'expression' in pattern) ??
    groups.find(({ targets }) => targets.some((pattern) => 'name' in pattern && pattern.name === 'Linear'))
  );
}

const strategies = ['tensor', 'channel', 'group', 'tensor_group', 'block'] as const;

function weightScheme(value: unknown, where: string): WeightScheme {
  if (!isObject(value)) throw wrongSetting(where, 'num_bits, type, strategy', value);
  const { bits, type } = numbers(value, where);
  const size = value.group_size ?? undefined;
  const inferred = size === undefined ? 'tensor' : size === -1 ? 'channel' : 'group';
  const strategy = strategies.find((known) => known === (value.strategy ?? inferred));
  if (!strategy) throw wrongSetting(`${where}.strategy`, strategies.join(', '), value.strategy);
  const grouped = strategy === 'group' || strategy === 'tensor_group';
  if (grouped && !(Number.isSafeInteger(size) && (size as number) > 0)) {
    throw wrongSetting(`${where}.group_size`, 'a whole number above 0', size);
  }
  const group = grouped ? (size as number) : -1;
  const block = strategy === 'block' ? blockOf(value.block_structure, `${where}.block_structure`) : undefined;
  return { bits, type, symmetric: flag(value, 'symmetric', true), strategy, group, block };
}

function inputScheme(value: unknown, where: string): InputScheme | undefined {
  if (value === undefined || value === null) return undefined;
  if (!isObject(value)) throw wrongSetting(where, 'num_bits, type, strategy', value);
  if (!flag(value, 'symmetric', true)) throw wrongSetting(`${where}.symmetric`, 'true', false);
  const { bits, type } = numbers(value, where);
  return { bits, type, dynamic: value.dynamic === true || value.dynamic === 'local' };
}

function numbers(value: Json, where: string): Pick<WeightScheme, 'bits' | 'type'> {
  const [bits, type] = [value.num_bits ?? 8, value.type ?? 'int'];
  if (!Number.isSafeInteger(bits)) throw wrongSetting(`${where}.num_bits`, 'a whole number', bits);
  if (type !== 'int' && type !== 'float') throw wrongSetting(`${where}.type`, '"int" or "float"', type);
  return { bits: bits as number, type };
}
