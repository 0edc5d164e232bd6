/** MLX's affine format, a folder that mlx-lm loads on Apple's chips. */

import { shellWord } from '../base/shell.ts';
import { refuse } from '../export/safetensors/integers.ts';
import { checkMlxExact, mlxGroup, mlxLayout, mlxSizes } from '../export/safetensors/mlx.ts';
import { examplePrompt } from '../report/use.ts';
import { integers } from './recommend.ts';
import { safetensorsFormat } from './safetensors.ts';

export const mlx = safetensorsFormat({
  name: 'mlx',
  label: 'MLX for mlx-lm',
  engines: { mlx: {}, 'mlx-lm': {} },
  recommend: (wanted) => integers(wanted, { group: 64 }, { passes: 0 }),
  grids: { offsets: true, wideScales: false },
  keepsTables: false,
  withoutWindows: 'mlx-lm',
  // Biases are float16 products of scales and zero points; those of eight bits leave scales no digits.
  fitting: ({ bits }) => (bits === 8 ? { symmetric: true } : { scales: 'short' }),
  storedBits: ({ bits }) => bits,
  fits(encoding, { shape: [rows, columns] }) {
    const sizes = mlxSizes(encoding);
    if (sizes) return void mlxGroup({ ...sizes, rows });
    const fix = 'choose --method gptq or rtn';
    refuse('MLX', { rows, columns }, { expected: 'integers in groups', found: encoding.label, fix });
  },
  exact: checkMlxExact,
  layout: mlxLayout,
  card({ name, chat }) {
    const model = shellWord(`./${name}`);
    // It puts the prompt into the chat template by itself, where there is one.
    const once = `mlx_lm.generate --model ${model} --prompt "${examplePrompt(chat)}"`;
    return {
      library: 'mlx',
      tags: ['mlx'],
      usage: [
        {
          title: `With mlx-lm, beside the folder; or with \`user/${name}\`, once it is uploaded:`,
          language: 'sh',
          code: chat ? `${once}\nmlx_lm.chat --model ${model}` : once,
        },
      ],
    };
  },
});
