/**
 * What decoders differ in, as a table: an architecture is one of these. What is left out is as in Llama: RMSNorm in front of
 * attention and of a gated feed-forward, rotary positions, no biases.
 */

import type { AlibiPlan, ConvolutionPlan, ExpertsPlan, LayerPlan, RopePlan } from '../model.ts';
import type { Json } from '../settings.ts';

export interface DecoderTraits {
  readonly modelType: string;
  /** What its classes in transformers begin with: "Llama". */
  readonly className: string;
  /** What transformers takes for keys that config.json leaves out, where it is not what Llama takes. */
  readonly absent?: Json;
  /** config.json in the words that are read here: older names of keys, sizes that follow from others. */
  readonly read?: (json: Json) => Json;
  /** What config.json calls sizes, where it is not as Llama does. */
  readonly keys?: Partial<Keys>;
  /** What the checkpoint calls its tensors, where it is not as Llama does. */
  readonly names?: Partial<Names>;
  /** Norms in front of the parts, where config.json says which there are. */
  readonly norms?: (json: Json) => Pick<Names, 'attentionNorm' | 'feedForwardNorm'>;
  /** What some versions of transformers call what stands around the layers. */
  readonly aliases?: Readonly<Record<string, string>>;
  readonly norm?: NormTraits;
  /** Whether attention and feed-forward are fed the same state, and both are added to it. */
  readonly parallel?: (json: Json) => boolean;
  readonly biases?: (json: Json) => Biases;
  /** Queries and keys are normed before they are rotated: each head by itself, or all together. */
  readonly queryKeyNorm?: 'head' | 'all';
  /** SiLU without it. @throws LapidaryError on one that is not honoured */
  readonly activation?: (json: Json) => Activation;
  /** False: down(f(up x)), without a gate. */
  readonly gated?: boolean;
  readonly factors?: (json: Json) => Factors;
  readonly caps?: (json: Json) => Caps;
  /** Learned positions: a row for each is added to the embedding. */
  readonly positions?: Positions;
  /** How config.json says that scores fall with the distance. */
  readonly alibi?: (json: Json, heads: number, headSize: number) => AlibiPlan | undefined;
  /** Of each layer; undefined for those that do not rotate. */
  readonly ropes?: (json: Json, layers: number) => readonly (RopePlan | undefined)[];
  /** For each layer the number of positions that a query sees, or undefined for all. */
  readonly windows?: (json: Json, layers: number) => readonly (number | undefined)[];
  /** Where feed-forwards may be mixtures of experts. */
  readonly mixtures?: Mixtures;
  /** Where layers may have something else in the place of attention. */
  readonly mixers?: Mixers;
  /** What config.json says of layers in words that no other architecture has. */
  readonly settings?: (layers: readonly LayerPlan[]) => Json;
  /** Where a checkpoint has matrices joined: of a part's name within its layer the joined one, and which of its rows. */
  readonly joined?: (part: string, plan: LayerPlan) => Joined | undefined;
  /** Throws on what else would change the computation and is not honoured. */
  readonly refuse?: (json: Json) => void;
}

export type Activation = 'silu' | 'gelu' | 'gelu tanh' | 'relu';

/** Keys of config.json. */
export interface Keys {
  readonly hidden: string;
  readonly layers: string;
  readonly heads: string;
  /** Undefined where each head of queries has keys and values of its own. */
  readonly keyValueHeads: string | undefined;
  /** Undefined where it is the hidden size by the number of heads, and config.json has no word for it. */
  readonly headSize: string | undefined;
  readonly intermediate: string;
  readonly context: string;
  readonly epsilon: string;
}

export const llamaKeys: Keys = {
  hidden: 'hidden_size',
  layers: 'num_hidden_layers',
  heads: 'num_attention_heads',
  keyValueHeads: 'num_key_value_heads',
  headSize: 'head_dim',
  intermediate: 'intermediate_size',
  context: 'max_position_embeddings',
  epsilon: 'rms_norm_eps',
};

/** Of tensors, without ".weight"; those of layers behind the layer's own. */
export interface Names {
  readonly table: string;
  /** A norm between the table and the first layer; undefined where there is none. */
  readonly tableNorm: string | undefined;
  readonly layers: string;
  /** Norms in front of a part, and of what it gives; undefined where there is none. */
  readonly attentionNorm: string | undefined;
  readonly attentionNormAfter: string | undefined;
  readonly feedForwardNorm: string | undefined;
  readonly feedForwardNormAfter: string | undefined;
  readonly query: string;
  readonly key: string;
  readonly value: string;
  readonly output: string;
  /** Norms of queries and keys, where they are normed. */
  readonly queryNorm: string;
  readonly keyNorm: string;
  /** What the three matrices of the feed-forward, and experts, stand under; undefined: the layer itself. */
  readonly feedForward: string | undefined;
  readonly gate: string;
  readonly up: string;
  readonly down: string;
  readonly finalNorm: string;
  readonly head: string;
}

export const llamaNames: Names = {
  table: 'model.embed_tokens',
  tableNorm: undefined,
  layers: 'model.layers',
  attentionNorm: 'input_layernorm',
  attentionNormAfter: undefined,
  feedForwardNorm: 'post_attention_layernorm',
  feedForwardNormAfter: undefined,
  query: 'self_attn.q_proj',
  key: 'self_attn.k_proj',
  value: 'self_attn.v_proj',
  output: 'self_attn.o_proj',
  queryNorm: 'self_attn.q_norm',
  keyNorm: 'self_attn.k_norm',
  feedForward: 'mlp',
  gate: 'gate_proj',
  up: 'up_proj',
  down: 'down_proj',
  finalNorm: 'model.norm',
  head: 'lm_head',
};

export interface NormTraits {
  /** "layer" takes the mean out. */
  readonly kind: 'rms' | 'layer';
  readonly bias?: boolean;
  /** What a stored weight counts from: 1 where files hold the difference from one (Gemma). */
  readonly offset?: 1;
}

export interface Biases {
  readonly queryKeyValue: boolean;
  readonly output: boolean;
  readonly feedForward: boolean;
  /** Of convolutions, and of the matrices before and behind them. */
  readonly convolution?: boolean;
  /** Of the head. */
  readonly head?: boolean;
}

export interface Positions {
  readonly table: string;
  /** Rows in front of that of the first position. */
  readonly offset: number;
}

/** What values are multiplied by. */
export interface Factors {
  /** Looked up embeddings. */
  readonly embedding?: number | undefined;
  /** Scores of attention; 1 / sqrt(headSize) without it. */
  readonly scores?: number | undefined;
  /** What attention and feed-forward add. */
  readonly residual?: number | undefined;
  readonly logits?: number | undefined;
}

/** Values x are held within ± a cap by cap tanh(x / cap). */
export interface Caps {
  readonly scores?: number | undefined;
  readonly logits?: number | undefined;
}

/** How config.json says which layers are mixtures. */
export interface Mixtures {
  /** The router, within the feed-forward. */
  readonly router: string;
  /** For each layer; undefined for those with one feed-forward. */
  read(json: Json, layers: number): readonly (Mixture | undefined)[];
  settings(layers: readonly LayerPlan[]): Json;
}

/** How config.json says which layers have something else in the place of attention. */
export interface Mixers {
  /** Of a convolution: its names within the layer. */
  readonly convolution: ConvolutionNames;
  /** For each layer; undefined for those with attention. */
  read(json: Json, layers: number): readonly (Mixer | undefined)[];
  settings(layers: readonly LayerPlan[]): Json;
}

export interface ConvolutionNames {
  readonly input: string;
  readonly kernel: string;
  readonly output: string;
}

export interface Mixer {
  readonly convolution: ConvolutionPlan;
}

export interface Mixture extends ExpertsPlan {
  /** Of each expert. */
  readonly width: number;
}

export interface Joined {
  readonly name: string;
  /** Of the joined matrix or bias. */
  readonly rows: readonly number[];
}
