/** MLX's affine format, a folder that mlx-lm loads on Apple's chips. */

import { shellWord } from '../base/shell.ts';
import { integerSizes, refuse } from '../export/safetensors/integers.ts';
import { mlxGroup, mlxLayout } from '../export/safetensors/mlx.ts';
import { integers } from './recommend.ts';
import { safetensorsFormat } from './safetensors.ts';

export const mlx = safetensorsFormat({
  label: 'MLX for mlx-lm',
  engines: ['mlx'],
  recommend: (wanted) => integers(wanted, { group: 64 }, { passes: 0 }),
  keepsTables: false,
  // Biases are float16 products of scales and zero points; those of eight bits leave scales no digits.
  fitting: ({ bits }) => (bits === 8 ? { symmetric: true } : { scales: 'short' }),
  fits(encoding, { shape: [rows, columns] }) {
    const sizes = integerSizes(encoding);
    if (sizes) return void mlxGroup({ ...sizes, rows });
    const fix = 'choose --method gptq or rtn';
    refuse('MLX', { rows, columns }, { expected: 'integers in groups', found: encoding.label, fix });
  },
  layout: mlxLayout,
  card: (name) => ({
    library: 'mlx',
    tags: ['mlx'],
    usage: {
      language: 'sh',
      code: `mlx_lm.generate --model ${shellWord(name)} --prompt "Once upon a time"`,
    },
  }),
});
