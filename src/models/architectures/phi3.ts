/** Phi 3 and 4 mini (Abdin et al. 2024, arXiv:2404.14219): Llama with joined matrices, heads rotated in part, LongRoPE. */

import { decoder } from '../decoder/decoder.ts';
import type { LayerPlan } from '../model.ts';
import { readRope } from '../rope.ts';
import { evenWindows } from '../windows.ts';

export const phi3 = decoder({
  modelType: 'phi3',
  className: 'Phi3',
  absent: { max_position_embeddings: 4096, rms_norm_eps: 1e-5 },
  ropes: (json, layers) => new Array(layers).fill(readRope(json, { partial: true, originalContext: 4096 })),
  windows: evenWindows,
  joined,
});

/** Query, key and value in one, gate and up in one. */
function joined(part: string, { heads, keyValueHeads, headSize, intermediate }: LayerPlan) {
  const [query, keys] = [heads * headSize, keyValueHeads * headSize];
  const range = (from: number, length: number) => Array.from({ length }, (_, row) => from + row);
  const attention = { q_proj: [0, query], k_proj: [query, keys], v_proj: [query + keys, keys] } as const;
  const feedForward = { gate_proj: [0, intermediate], up_proj: [intermediate, intermediate] } as const;
  for (const [name, [from, length]] of Object.entries(attention))
    if (part === `self_attn.${name}`) return { name: 'self_attn.qkv_proj', rows: range(from, length) };
  for (const [name, [from, length]] of Object.entries(feedForward))
    if (part === `mlp.${name}`) return { name: 'mlp.gate_up_proj', rows: range(from, length) };
  return undefined;
}
