import { afterEach, describe, expect, it } from 'vitest';
import { stored } from '../../base/tensor.ts';
import { compressedTensors } from './compressed-tensors.ts';
import { gptq } from './gptq.ts';

const seconds = 'LAPIDARY_LIBRARY_SECONDS';
const before = process.env[seconds];
afterEach(() => {
  if (before === undefined) delete process.env[seconds];
  else process.env[seconds] = before;
});

/** Honest ones, of which none fits. */
const many = Array.from({ length: 40_000 }, (_, index) => `model\\.layers\\.${index}\\.absent`);
const name = 'model.layers.0.mlp.up_proj';
const tensors = new Map([
  ['weight_scale', stored('float32', [1], Float32Array.of(1))],
  ['qweight', stored('int32', [1, 1], new Int32Array(1))],
]);
const formats = [
  {
    format: compressedTensors,
    config: {
      quant_method: 'compressed-tensors',
      quantization_status: 'compressed',
      config_groups: {},
      ignore: many.map((each) => `re:${each}`),
    },
    otherwise: 'a group with this matrix among its targets',
  },
  {
    format: gptq,
    config: {
      quant_method: 'gptq',
      bits: 4,
      group_size: 128,
      dynamic: Object.fromEntries(many.map((each) => [`-:${each}`, {}])),
    },
    otherwise: 'int32 [1, 1]',
  },
];

describe.each(formats)('expressions of $format.name', ({ format, config, otherwise }) => {
  const ask = () => format.open({ quantization_config: config })(name, tensors);

  it('have a deadline, told and adjustable', () => {
    process.env[seconds] = '0.001';
    expect(ask).toThrow(
      /config\.json: an expression of quantization_config.* took more time.*\n.*at most 0 s\n.*SECONDS=1 in the environment/,
    );
  });

  it('are followed within it', () => {
    expect(ask).toThrow(
      expect.objectContaining({
        problem: expect.objectContaining({ expected: expect.stringContaining(otherwise) }),
      }),
    );
  });
});
