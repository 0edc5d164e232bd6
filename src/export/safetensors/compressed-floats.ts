/** Small floats as compressed-tensors stores them; see src/models/quantized/compressed-floats.ts for the layout. */

import { LapidaryError } from '../../base/errors.ts';
import type { Stored } from '../../base/tensor.ts';
import type { Encoding } from '../../encodings/encoding.ts';
import type { LevelGroup, Unlevelled } from '../../encodings/levels.ts';
import { unlevelled } from '../../encodings/levels.ts';
import { pack } from '../../encodings/pack.ts';
import type { StoredScheme } from './stored-scheme.ts';
import { made } from './integers.ts';

type Form = Omit<StoredScheme, 'tensors'>;

/** By the names of the number formats; of weights alone, since nothing here rounds inputs to floats. */
const forms: Readonly<Record<string, Form>> = {
  'fp8-e4m3': { format: 'naive-quantized', type: 'FP8', weights: { num_bits: 8 } },
  mxfp8: {
    format: 'mxfp8-quantized',
    type: 'MXFP8A16',
    weights: { num_bits: 8, strategy: 'group', group_size: 32, scale_dtype: 'torch.uint8' },
  },
  mxfp4: {
    format: 'mxfp4-pack-quantized',
    type: 'MXFP4A16',
    weights: { num_bits: 4, strategy: 'group', group_size: 32, scale_dtype: 'torch.uint8' },
  },
  nvfp4: {
    format: 'nvfp4-pack-quantized',
    type: 'NVFP4A16',
    weights: { num_bits: 4, strategy: 'tensor_group', group_size: 16 },
  },
};

/** @throws LapidaryError on rows that end within a group; undefined where the encoding is in none of these formats */
export function floatScheme(encoding: Encoding): StoredScheme | undefined {
  const { kind, numbers, group } = encoding.description as Record<string, string | number>;
  const form = kind === 'levels' ? forms[numbers] : undefined;
  if (!form) return undefined;
  const [rows, columns] = encoding.shape;
  if (typeof group === 'number' && columns % group !== 0 && group !== -1) {
    throw new LapidaryError({
      what: 'compressed-tensors does not hold this matrix',
      where: `rows of ${columns}`,
      expected: `rows of whole groups of ${group}`,
      found: `${columns} weights`,
    });
  }
  const read = (): Unlevelled => unlevelled(encoding)!;
  const codes = (): Uint8Array => read().codes;
  const packed = made('uint8', [rows, columns / 2], () => pack(codes(), columns, 4));
  const plain = made('float8e4m3', encoding.shape, codes);
  return {
    ...form,
    weights: {
      type: 'float',
      symmetric: true,
      dynamic: false,
      ...strategyOf(group as LevelGroup),
      ...form.weights,
    },
    tensors: new Map<string, Stored>([
      form.weights.num_bits === 4 ? ['weight_packed', packed] : ['weight', plain],
      ['weight_scale', scalesOf(encoding, read)],
      ...globalOf(encoding),
    ]),
  };
}

function strategyOf(group: LevelGroup): Record<string, unknown> {
  if (group === 'tensor') return { strategy: 'tensor', group_size: null };
  return group === -1 ? { strategy: 'channel', group_size: null } : { strategy: 'group', group_size: group };
}

/** Codes as the format has them, or floats. */
function scalesOf({ shape, tensors, description }: Encoding, read: () => Unlevelled): Stored {
  const { shape: scales } = tensors.get('scales')!;
  if (description.group === 'tensor') return made('float32', [1], () => read().scales);
  if (tensors.has('global')) return made('float8e4m3', scales, () => read().scaleCodes!);
  if (tensors.get('scales')!.dtype === 'uint8') return made('uint8', scales, () => read().scaleCodes!);
  return made('float32', [shape[0], scales[1]], () => read().scales);
}

function globalOf({ tensors }: Encoding): [string, Stored][] {
  const factor = tensors.get('global');
  return factor ? [['weight_global_scale', factor]] : [];
}
