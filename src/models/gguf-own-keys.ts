/**
 * What files of single architectures say beyond the sizes that all have, and what llama.cpp takes for granted of them: read
 * into the words of config.json, written from a configuration, or refused where llama.cpp would compute something else.
 */

import { LapidaryError } from '../base/errors.ts';
import type { GgufValue } from '../io/gguf/types.ts';
import type { Configuration, LayerPlan } from './model.ts';
import type { Json } from './settings.ts';

export interface OwnKeys {
  /**
   * For config.json.
   * @param at the number under a key, behind the architecture's name; undefined where there is none
   */
  read(
    at: (key: string) => number | undefined,
    sizes: { readonly headSize: number; readonly layers: number },
  ): Json;
  /**
   * Keys behind the architecture's name.
   * @throws LapidaryError where llama.cpp would not compute what the model does
   */
  write(config: Configuration, source: string): readonly (readonly [key: string, value: GgufValue])[];
  /** Whether layers with windows may be rotated otherwise than those without. */
  readonly ropes?: boolean;
}

const f32 = (value: number): GgufValue => ({ type: 'float32', value });
const u32 = (value: number): GgufValue => ({ type: 'uint32', value });

function check(source: string, what: string, expected: string, fits: boolean, found?: unknown): void {
  if (fits) return;
  throw new LapidaryError({
    what: `llama.cpp computes models of this type with ${what} of one kind alone`,
    where: source,
    expected,
    ...(found === undefined ? {} : { found: String(found) }),
    fix: 'write another format',
  });
}

const near = (a: number, b: number) => Math.abs(a / b - 1) < 1e-5;

/** The root of the head size: what llama.cpp divides scores by. */
function checkScale({ layers }: Configuration, source: string): void {
  for (const { scale, headSize } of layers)
    check(
      source,
      'scores',
      '1 / sqrt(head size)',
      scale === undefined || near(scale, headSize ** -0.5),
      scale,
    );
}

/** Windows in all layers but every n-th, and of one size. */
function windowOf(
  { layers }: Configuration,
  source: string,
  seesAll: (layer: number) => boolean,
): number | undefined {
  const sizes = new Set(layers.flatMap(({ window }) => window ?? []));
  const fits = layers.every(({ window }, layer) => (window === undefined) === seesAll(layer));
  check(
    source,
    'windows',
    'windows of one size in the layers that all models of this type have',
    fits && sizes.size <= 1,
  );
  return [...sizes][0];
}

const gelu = { hidden_act: 'gelu_pytorch_tanh', hidden_activation: 'gelu_pytorch_tanh' };

export const gemmaKeys: OwnKeys = {
  read: () => gelu,
  write: () => [],
};

export const gemma2Keys: OwnKeys = {
  read: (at, { headSize }) => ({
    ...gelu,
    query_pre_attn_scalar: headSize,
    sliding_window: at('attention.sliding_window') ?? 4096,
    attn_logit_softcapping: at('attn_logit_softcapping') ?? 50,
    final_logit_softcapping: at('final_logit_softcapping') ?? 30,
  }),
  write(config, source) {
    checkScale(config, source);
    const window = windowOf(config, source, (layer) => layer % 2 === 1);
    const [{ softcap }] = config.layers;
    const logits = config.json.final_logit_softcapping;
    check(source, 'caps', 'capped scores and logits', softcap !== undefined && typeof logits === 'number');
    return [
      ['attn_logit_softcapping', f32(softcap!)],
      ['final_logit_softcapping', f32(logits as number)],
      ...(window === undefined ? [] : [['attention.sliding_window', u32(window)] as const]),
    ];
  },
};

/** Of every sixth layer alone all positions are seen; llama.cpp's base of the others where a file does not say it. */
const [pattern, nearTheta] = [6, 10000];

export const gemma3Keys: OwnKeys = {
  ropes: true,
  read: (at, { headSize }) => ({
    ...gelu,
    query_pre_attn_scalar: headSize,
    sliding_window: at('attention.sliding_window') ?? 1024,
    sliding_window_pattern: pattern,
    rope_local_base_freq: at('rope.freq_base_swa') ?? nearTheta,
    final_logit_softcapping: at('final_logit_softcapping') ?? null,
    attn_logit_softcapping: null,
  }),
  write(config, source) {
    checkScale(config, source);
    const window = windowOf(config, source, (layer) => (layer + 1) % pattern === 0);
    const { final_logit_softcapping: cap } = config.json;
    const rope = config.layers.find((layer) => layer.window !== undefined)?.rope;
    check(source, 'scores', 'scores without a cap', config.layers[0].softcap === undefined);
    check(source, 'windows', 'a rotation without scaling', rope?.scaling === undefined);
    return [
      ...(window === undefined ? [] : [['attention.sliding_window', u32(window)] as const]),
      ...(rope === undefined ? [] : [['rope.freq_base_swa', f32(rope.theta)] as const]),
      ...(typeof cap === 'number' ? [['final_logit_softcapping', f32(cap)] as const] : []),
    ];
  },
};

export const graniteKeys: OwnKeys = {
  read: (at) => ({
    embedding_multiplier: at('embedding_scale') ?? 1,
    residual_multiplier: at('residual_scale') ?? 1,
    logits_scaling: at('logit_scale') ?? 1,
    attention_multiplier: at('attention.scale') ?? 1,
  }),
  write({ json, layers }) {
    const factor = (key: string) => (typeof json[key] === 'number' ? json[key] : 1);
    return [
      ['embedding_scale', f32(factor('embedding_multiplier'))],
      ['residual_scale', f32(factor('residual_multiplier'))],
      ['logit_scale', f32(factor('logits_scaling'))],
      ['attention.scale', f32(layers[0].scale ?? layers[0].headSize ** -0.5)],
    ];
  },
};

export const smollm3Keys: OwnKeys = {
  read: () => ({ no_rope_layer_interval: 4 }),
  write({ layers }, source) {
    const rotates = ({ rope }: LayerPlan, layer: number) => (rope !== undefined) === ((layer + 1) % 4 !== 0);
    check(source, 'rotation', 'none in every fourth layer', layers.every(rotates));
    check(
      source,
      'windows',
      'none',
      layers.every(({ window }) => window === undefined),
    );
    return [];
  },
};

/** How many experts there are, and how many a token is sent to: what files of all mixtures say. */
export const expertKeys: OwnKeys = {
  read: (at) => ({
    num_experts: at('expert_count'),
    num_experts_per_tok: at('expert_used_count'),
    norm_topk_prob: false,
  }),
  write({ layers }) {
    const [{ experts }] = layers;
    return [
      ['expert_count', u32(experts!.count)],
      ['expert_used_count', u32(experts!.perToken)],
    ];
  },
};

export const qwenExpertKeys: OwnKeys = {
  read: (at, sizes) => ({
    ...expertKeys.read(at, sizes),
    norm_topk_prob: true,
    moe_intermediate_size: at('expert_feed_forward_length') ?? at('feed_forward_length'),
  }),
  write: (config, source) => [
    ...expertKeys.write(config, source),
    ['expert_feed_forward_length', u32(config.layers[0].intermediate)],
  ],
};
