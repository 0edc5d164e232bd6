/**
 * A model is a value: its configuration, the plan of its layers, its matrices as encodings and its vectors, all by
 * their checkpoint names. Methods return a new one. An architecture is a function from these to a graph.
 */

import type { Stored } from '../base/tensor.ts';
import type { Encoding } from '../encodings/encoding.ts';
import type { Value } from '../graph/graph.ts';

/** What one layer looks like; every layer has its own, so that pruned ones need no special case. */
export interface LayerPlan {
  /** 0, as of keys and values: a layer without attention; without its norm, too, where nothing stands in its place. */
  readonly heads: number;
  readonly keyValueHeads: number;
  readonly headSize: number;
  /** Width of the feed-forward, of each expert where it is a mixture; 0: a layer without feed-forward and its norm. */
  readonly intermediate: number;
  /** Where the feed-forward is a mixture of experts. */
  readonly experts?: ExpertsPlan | undefined;
  /** What stands in the place of attention. */
  readonly convolution?: ConvolutionPlan | undefined;
  /** Number of positions a query sees, itself included; undefined: all before it. */
  readonly window?: number | undefined;
  /** How heads of queries and keys are rotated by their positions; undefined: not at all. */
  readonly rope?: RopePlan | undefined;
  /** How scores fall with the distance; undefined: not at all. */
  readonly alibi?: AlibiPlan | undefined;
  /** What scores of attention are multiplied by; 1 / sqrt(headSize) where it is not given. */
  readonly scale?: number | undefined;
  /** Scores x are held within ± this by softcap tanh(x / softcap). */
  readonly softcap?: number | undefined;
}

/** A gated short convolution, causal and of each channel by itself (LFM2, Liquid AI 2025, arXiv:2511.23404). */
export interface ConvolutionPlan {
  /** Number of positions that it sees, the token's own included. */
  readonly width: number;
}

/** A mixture of experts (Shazeer et al. 2017, arXiv:1701.06538): a router sends each token to few of many feed-forwards. */
export interface ExpertsPlan {
  readonly count: number;
  /** Experts that a token is sent to; at most `count`. */
  readonly perToken: number;
  /** Whether the weights of those that a token is sent to sum to 1, or are their share of all. */
  readonly normalized: boolean;
}

export interface Configuration {
  readonly modelType: string;
  readonly hidden: number;
  readonly vocabulary: number;
  /** Longest sequence, in tokens. */
  readonly context: number;
  readonly layers: readonly LayerPlan[];
  readonly normEpsilon: number;
  readonly tiedHead: boolean;
  /** Layers, counted from 0, ascending, behind which heads of their own stand; undefined where none does. */
  readonly exits?: readonly number[] | undefined;
  readonly bos?: number | undefined;
  readonly eos: readonly number[];
  readonly pad?: number | undefined;
  /** config.json as it was read, with what it leaves out; exports start from it. */
  readonly json: Readonly<Record<string, unknown>>;
}

/** Rotary positions (Su et al. 2021, arXiv:2104.09864), from which each pair's frequency is made. */
export interface RopePlan {
  readonly theta: number;
  /** Of a head's channels that are rotated, from its first on; 1 where it is not given. */
  readonly share?: number | undefined;
  readonly scaling?: RopeScaling | undefined;
}

/** Linear biases (Press et al. 2021, arXiv:2108.12409): a score of a head is raised by slope times the position of its key. */
export interface AlibiPlan {
  /** Of each head. */
  readonly slopes: readonly number[];
  /** What slope times position is multiplied by; 1 where it is not given. */
  readonly factor?: number | undefined;
  /** Whether slopes, positions and their products are rounded to bfloat16 first. */
  readonly rounded?: boolean | undefined;
}

/** For longer contexts than a model was first trained on; by transformers' names. */
export type RopeScaling =
  | { readonly type: 'linear' | 'dynamic'; readonly factor: number }
  | {
      readonly type: 'llama3';
      readonly factor: number;
      readonly lowFrequencyFactor: number;
      readonly highFrequencyFactor: number;
      readonly originalContext: number;
    }
  | {
      readonly type: 'yarn';
      readonly factor: number;
      readonly originalContext: number;
      /** Of cosines and sines. */
      readonly attentionFactor: number;
      /** Turns within the original context above which a pair stays, and below which it is slowed. */
      readonly fast: number;
      readonly slow: number;
      readonly truncate: boolean;
    }
  | {
      readonly type: 'longrope';
      /** Divisors of each pair's frequency, of sequences within the original context and longer ones. */
      readonly short: readonly number[];
      readonly long: readonly number[];
      readonly originalContext: number;
      readonly attentionFactor: number;
    };

/**
 * What an architecture builds its graph with. Names are the checkpoint's, without ".weight" for matrices
 * ("model.layers.0.self_attn.q_proj") and whole for vectors ("model.norm.weight").
 */
export interface Scope {
  readonly config: Configuration;
  /** y = x W^T (+ bias, where `bias` names one). Checks W against [width, last size of x]. */
  linear(name: string, x: Value, width: number, bias?: string): Value;
  /** Rows of a matrix [rows, hidden]; `rows` is the vocabulary where it is not given. */
  embedding(name: string, ids: Value, rows?: number): Value;
  /** A norm's weight or another vector of `size` elements, or the tensor of that shape, in the graph's activation type. */
  vector(name: string, size: number | readonly number[]): Value;
  /**
   * Causal attention with grouped heads: q [batch, time, heads * headSize], k and v [batch, time, keyValueHeads * headSize];
   * rotates q and k where the configuration has a rope. How (plain nodes, fused operator, with or without a cache)
   * is the scope's business.
   */
  attention(q: Value, k: Value, v: Value, layer: number): Value;
  /**
   * Each channel's sum over the last positions, itself included, weighted by a kernel: x [batch, time, channels], kernel
   * [channels, 1, width], bias [channels]. Before the sequence, and where padding stands, there are zeros. How it knows what
   * came before is the scope's business.
   */
  convolution(
    x: Value,
    weights: { readonly kernel: Value; readonly bias: Value | undefined },
    layer: number,
  ): Value;
  /** Positions of the tokens at hand: int64 [batch or 1, time]; for architectures with learned positions. */
  positions(): Value;
}

/**
 * How the matrices and vectors of a layer hang together, for methods that move scales and rotations from one to another.
 * Names as everywhere: matrices without ".weight", vectors whole.
 */
export interface LayerStructure {
  /** The norms of the residual stream, in the order they run, each with all matrices that read what it gives. */
  readonly norms: readonly NormStructure[];
  /** Matrices whose outputs are added to the residual stream. */
  readonly writers: readonly Writer[];
  /**
   * Where a matrix's outputs are another's inputs, up to what a scale of a channel passes through unchanged: values to the
   * output projection (through attention), up to down (through the product with the gate).
   */
  readonly passages: readonly Passage[];
  /** Matrices of attention or of what stands in its place, and of what feeds forward. */
  readonly attention: readonly string[];
  readonly feedForward: readonly string[];
  /** Matrices whose outputs are multiplied with each other: queries and keys, where these stand by themselves. */
  readonly compared: readonly string[];
  /** Where the feed-forward is a mixture; its matrices are among readers, writers and passages, too. */
  readonly mixture?: MixtureStructure | undefined;
}

export interface MixtureStructure {
  /** The matrix that scores experts for a token, a row each. */
  readonly router: string;
  /** The matrices of each expert, in one order. */
  readonly experts: readonly (readonly string[])[];
}

export interface Writer {
  readonly matrix: string;
  readonly bias?: string | undefined;
  /** The weight of a norm that stands between it and the stream. */
  readonly norm?: string | undefined;
}

export interface NormStructure {
  readonly weight: string;
  readonly bias?: string | undefined;
  /** What the stored weight counts from; 0 where it is not given. */
  readonly offset?: number | undefined;
  readonly readers: readonly { readonly matrix: string; readonly bias?: string | undefined }[];
}

export interface Passage {
  readonly from: string;
  readonly bias?: string | undefined;
  readonly to: string;
  /** Where they are heads of attention: the channels of a key/value head feed those of `heads / keyValueHeads` heads. */
  readonly heads?:
    { readonly heads: number; readonly keyValueHeads: number; readonly headSize: number } | undefined;
}

/** What stands around the layers. */
export interface OuterStructure {
  /** Tables whose rows begin the residual stream. */
  readonly tables: readonly string[];
  /** The weight of a norm between tables and stream. */
  readonly tableNorm?: string | undefined;
  /** The norm before the head; its only reader is the head's matrix. */
  readonly norm: NormStructure;
  /** Norms of the heads behind layers before the last, in the order of `Configuration.exits`, each with its head's matrix. */
  readonly exits: readonly NormStructure[];
  /** Whether norms subtract the mean (LayerNorm) or only divide (RMSNorm). */
  readonly centered: boolean;
}

/** One file an architecture, named by its model_type. */
export interface Architecture {
  readonly modelType: string;
  /** What transformers calls it, with its head and without. */
  readonly classes: { readonly causal: string; readonly base: string };
  /**
   * Reads config.json.
   * @param mostLayers that there can be, as many as there are tensors: before anything is made for each of them
   * @throws LapidaryError on a value it cannot honour, naming the key
   */
  configure(json: Readonly<Record<string, unknown>>, mostLayers?: number): Configuration;
  /** Whether a tensor is one that older checkpoints hold and everybody computes. */
  computed?(name: string): boolean;
  /** Matrices that the checkpoint stores as [in, out] (GPT-2's Conv1D). */
  transposed?(name: string): boolean;
  /**
   * Where a checkpoint has a matrix, or a bias, joined with others: the name of these, and which of their rows it is. Asked
   * for where it has none of its own.
   */
  joined?(
    name: string,
    config: Configuration,
  ): { readonly name: string; readonly rows: readonly number[] } | undefined;
  /** What other versions of transformers call a tensor; asked for where there is none of its name. */
  alias?(name: string): string | undefined;
  /** What names begin with here but not in checkpoints of the model without its head ("transformer."). */
  readonly omittedPrefix?: string;
  /**
   * What config.json says of layers; a list where they differ.
   * @throws LapidaryError where the architecture has no such layers
   */
  settings(layers: readonly LayerPlan[]): Readonly<Record<string, unknown>>;
  /** Prefix of a layer's names: "model.layers.3". */
  layerName(layer: number): string;
  /** Token ids [batch, time] (int64) to hidden states [batch, time, hidden]. */
  embed(scope: Scope, ids: Value): Value;
  block(scope: Scope, x: Value, layer: number): Value;
  /**
   * Hidden states to logits [batch, time, vocabulary].
   * @param exit the layer behind which the head stands; the last head without it
   */
  head(scope: Scope, x: Value, exit?: number): Value;
  /** How a layer's parts hang together, and what stands around the layers. */
  structure(config: Configuration, layer: number): LayerStructure;
  around(config: Configuration): OuterStructure;
}

export interface Model {
  readonly architecture: Architecture;
  readonly config: Configuration;
  /** Matrices by name without ".weight"; two names of one encoding share it, and it is stored once. */
  readonly matrices: ReadonlyMap<string, Encoding>;
  /** Norms, biases and kernels of convolutions by full name. */
  readonly vectors: ReadonlyMap<string, Stored>;
  /** Files that travel with it unchanged (tokenizer.json, ...), by name. */
  readonly files: ReadonlyMap<string, () => Uint8Array>;
  /** Where it came from: a folder or a hub id with revision. */
  readonly source: string;
}
