/** What GGUF calls the tensors of an architecture, and what our checkpoints call them. */

import type { OwnKeys } from './gguf-own-keys.ts';
import {
  expertKeys,
  gemma2Keys,
  gemma3Keys,
  gemmaKeys,
  graniteKeys,
  qwenExpertKeys,
  smollm3Keys,
} from './gguf-own-keys.ts';

interface Names {
  /** Outside the layers. */
  readonly whole: readonly (readonly [gguf: string, ours: string])[];
  /** Within a layer: behind "blk.N." and behind `layer`. */
  readonly parts: readonly (readonly [gguf: string, ours: string])[];
  readonly layer: string;
}

const decoder: Names = {
  whole: [
    ['token_embd', 'model.embed_tokens'],
    ['output_norm', 'model.norm'],
    ['output', 'lm_head'],
  ],
  layer: 'model.layers',
  parts: [
    ['attn_norm', 'input_layernorm'],
    ['attn_q', 'self_attn.q_proj'],
    ['attn_k', 'self_attn.k_proj'],
    ['attn_v', 'self_attn.v_proj'],
    ['attn_q_norm', 'self_attn.q_norm'],
    ['attn_k_norm', 'self_attn.k_norm'],
    ['attn_output', 'self_attn.o_proj'],
    ['ffn_norm', 'post_attention_layernorm'],
    ['ffn_gate', 'mlp.gate_proj'],
    ['ffn_up', 'mlp.up_proj'],
    ['ffn_down', 'mlp.down_proj'],
  ],
};

const gpt2: Names = {
  whole: [
    ['token_embd', 'transformer.wte'],
    ['position_embd', 'transformer.wpe'],
    ['output_norm', 'transformer.ln_f'],
    ['output', 'lm_head'],
  ],
  layer: 'transformer.h',
  parts: [
    ['attn_norm', 'ln_1'],
    ['attn_qkv', 'attn.c_attn'],
    ['attn_output', 'attn.c_proj'],
    ['ffn_norm', 'ln_2'],
    ['ffn_up', 'mlp.c_fc'],
    ['ffn_down', 'mlp.c_proj'],
  ],
};

/** Norms behind attention and feed-forward, too, as Gemma has them. */
const gemma: Names = {
  ...decoder,
  parts: [
    ...decoder.parts.filter(([, ours]) => ours !== 'post_attention_layernorm'),
    ['post_attention_norm', 'post_attention_layernorm'],
    ['ffn_norm', 'pre_feedforward_layernorm'],
    ['post_ffw_norm', 'post_feedforward_layernorm'],
  ],
};

/** Norms behind these alone. */
const olmo: Names = {
  ...gemma,
  parts: gemma.parts.filter(([gguf]) => gguf !== 'attn_norm' && gguf !== 'ffn_norm'),
};

/** Experts stand in one tensor for each kind of matrix. */
const withExperts = (
  names: Names,
  under: string,
  [gate, up, down]: readonly [string, string, string],
): Names => ({
  ...names,
  parts: [
    ...names.parts.filter(([, ours]) => !ours.startsWith('mlp.')),
    ['ffn_gate_inp', `${under}.gate`],
    ['ffn_gate_exps', `${under}.experts.${gate}`],
    ['ffn_up_exps', `${under}.experts.${up}`],
    ['ffn_down_exps', `${under}.experts.${down}`],
  ],
});

const qwenMixture = withExperts(decoder, 'mlp', ['gate_proj', 'up_proj', 'down_proj']);
const mixtral = withExperts(decoder, 'block_sparse_moe', ['w1', 'w3', 'w2']);

/** The number of the expert that one of our names is of. */
export const expertOf = (ours: string): number | undefined => {
  const [, expert] = /\.experts\.(\d+)\./.exec(ours) ?? [];
  return expert === undefined ? undefined : Number(expert);
};

/** Our name of one expert's matrix, from that of all. */
export const ofExpert = (ours: string, expert: number): string =>
  ours.replace('.experts.', `.experts.${expert}.`);

/** How an architecture of llama.cpp corresponds to ours. */
export interface GgufFamily {
  /** general.architecture. */
  readonly architecture: string;
  /** Our model_type. */
  readonly modelType: string;
  /** llama.cpp's architecture for the same with layers that differ, or lack a part; undefined where there is none. */
  readonly uneven?: string | undefined;
  /** Whether the rows of query and key lie in adjacent pairs, as llama.cpp rotates them, and not in halves. */
  readonly adjacentPairs: boolean;
  /** Key of the norms' epsilon, behind the architecture. */
  readonly epsilonKey: string;
  /** What files add to the weights of norms, which are stored as their difference from it in checkpoints. */
  readonly normOffset: number;
  /** Where feed-forwards are mixtures: whether llama.cpp has the weights of those that a token is sent to sum to 1. */
  readonly experts?: { readonly normalized: boolean } | undefined;
  /** What is of this architecture alone. */
  readonly own?: OwnKeys | undefined;
  /**
   * A name without ".weight" or ".bias", ours or theirs; undefined where there is none. Of experts, whose matrices stand in one
   * tensor, ours is without their number (`ofExpert`).
   */
  ours(gguf: string): string | undefined;
  theirs(ours: string): string | undefined;
}

function family(architecture: string, modelType: string, names: Names, adjacentPairs = false): GgufFamily {
  const toOurs = new Map([...names.whole, ...names.parts]);
  const toTheirs = new Map([...toOurs].map(([gguf, ours]) => [ours, gguf]));
  const prefix = `${names.layer}.`;
  return {
    architecture,
    modelType,
    adjacentPairs,
    normOffset: 0,
    epsilonKey: names === gpt2 ? 'attention.layer_norm_epsilon' : 'attention.layer_norm_rms_epsilon',
    ours(gguf) {
      const [, layer, part] = /^blk\.(\d+)\.(.+)$/.exec(gguf) ?? [];
      if (part === undefined) return toOurs.get(gguf);
      const found = toOurs.get(part);
      return found && `${prefix}${layer}.${found}`;
    },
    theirs(ours) {
      if (!ours.startsWith(prefix)) return toTheirs.get(ours);
      const [, layer, part] = /^(\d+)\.(.+)$/.exec(ours.slice(prefix.length)) ?? [];
      const found =
        part === undefined ? undefined : toTheirs.get(part.replace(/\.experts\.\d+\./, '.experts.'));
      return found && `blk.${layer}.${found}`;
    },
  };
}

/** Mistral is written as "llama", which has no windows; what is read as "llama" is ours of that name. */
export const ggufFamilies: readonly GgufFamily[] = [
  { ...family('llama', 'llama', decoder, true), uneven: 'deci' },
  family('llama', 'mistral', decoder, true),
  family('qwen2', 'qwen2', decoder),
  family('qwen3', 'qwen3', decoder),
  family('gpt2', 'gpt2', gpt2),
  family('deci', 'llama', decoder, true),
  { ...family('gemma', 'gemma', decoder), normOffset: 1, own: gemmaKeys },
  { ...family('gemma2', 'gemma2', gemma), normOffset: 1, own: gemma2Keys },
  { ...family('gemma3', 'gemma3_text', gemma), normOffset: 1, own: gemma3Keys },
  { ...family('granite', 'granite', decoder, true), own: graniteKeys },
  { ...family('smollm3', 'smollm3', decoder, true), own: smollm3Keys },
  family('olmo2', 'olmo2', olmo),
  { ...family('qwen3moe', 'qwen3_moe', qwenMixture), experts: { normalized: true }, own: qwenExpertKeys },
  { ...family('olmoe', 'olmoe', qwenMixture), experts: { normalized: false }, own: expertKeys },
  { ...family('llama', 'mixtral', mixtral, true), experts: { normalized: true }, own: expertKeys },
];
