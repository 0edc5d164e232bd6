/**
 * The decoder that most open language models share: norm, grouped-query attention with rotary positions, norm, gated
 * feed-forward, each added to its input. An architecture file says what is its own.
 */

import type { Value } from '../graph/graph.ts';
import { add, mul, reshape, rmsNorm, silu } from '../graph/ops.ts';
import { exitNames, exitStructures, readExits } from './exits.ts';
import { mixture } from './experts.ts';
import type { Architecture, Configuration, ExpertsPlan, LayerPlan, LayerStructure, Scope } from './model.ts';
import { readRope } from './rope.ts';
import type { Json } from './settings.ts';
import { asSetting, count, counts, flag, positive, tokens, word, wrongSetting } from './settings.ts';

export interface Biases {
  readonly queryKeyValue: boolean;
  readonly output: boolean;
  readonly feedForward: boolean;
}

export interface DecoderTraits {
  readonly modelType: string;
  /** What its classes in transformers begin with: "Llama". */
  readonly className: string;
  /** What transformers takes for keys that config.json leaves out, where it is not what Llama takes. */
  readonly absent?: Json;
  readonly biases?: (json: Json) => Biases;
  /** Whether every head of query and key is normed before it is rotated. */
  readonly queryKeyNorm?: boolean;
  /** For each layer the number of positions that a query sees, or undefined for all. */
  readonly windows?: (json: Json, layers: number) => readonly (number | undefined)[];
  /** Where feed-forwards may be mixtures of experts. */
  readonly mixtures?: Mixtures;
}

/** How config.json says which layers are mixtures. */
export interface Mixtures {
  /** For each layer; undefined for those with one feed-forward. */
  read(json: Json, layers: number): readonly (Mixture | undefined)[];
  settings(layers: readonly LayerPlan[]): Json;
}

export interface Mixture extends ExpertsPlan {
  /** Of each expert. */
  readonly width: number;
}

const noBiases: Biases = { queryKeyValue: false, output: false, feedForward: false };

const headOf = ({ tiedHead }: Configuration) => (tiedHead ? 'model.embed_tokens' : 'lm_head');

/** An architecture of this form. */
export function decoder(traits: DecoderTraits): Architecture {
  const biasesOf = (scope: Scope) => traits.biases?.(scope.config.json) ?? noBiases;
  const layerName = (layer: number) => `model.layers.${layer}`;
  return {
    modelType: traits.modelType,
    classes: { causal: `${traits.className}ForCausalLM`, base: `${traits.className}Model` },
    configure: (json, mostLayers) => configure(traits, json, mostLayers),
    omittedPrefix: 'model.',
    computed: (name) => name.endsWith('rotary_emb.inv_freq'),
    layerName,
    embed: (scope, ids) => scope.embedding('model.embed_tokens', ids),
    block(scope, x, layer) {
      const name = layerName(layer);
      const biases = biasesOf(scope);
      const { heads, intermediate } = scope.config.layers[layer];
      let hidden = x;
      if (heads > 0)
        hidden = add(
          hidden,
          attention(scope, traits, biases, norm(scope, hidden, `${name}.input_layernorm`), layer),
        );
      if (intermediate === 0) return hidden;
      const normed = norm(scope, hidden, `${name}.post_attention_layernorm`);
      return add(hidden, feedForwards(scope, biases, normed, layer, `${name}.mlp`));
    },
    head(scope, x, exit) {
      const last = { norm: 'model.norm', head: headOf(scope.config) };
      const names = exit === undefined ? last : exitNames(exit);
      return scope.linear(names.head, norm(scope, x, names.norm), scope.config.vocabulary);
    },
    structure: (config, layer) =>
      structureOf(layerName(layer), config.layers[layer], traits.biases?.(config.json) ?? noBiases),
    settings: (layers) => ({
      num_hidden_layers: layers.length,
      num_attention_heads: asSetting(layers.map(({ heads }) => heads)),
      num_key_value_heads: asSetting(layers.map(({ keyValueHeads }) => keyValueHeads)),
      ...widthSettings(traits, layers),
    }),
    around: (config) => ({
      tables: ['model.embed_tokens'],
      norm: { weight: 'model.norm.weight', readers: [{ matrix: headOf(config) }] },
      exits: exitStructures(config),
      centered: false,
    }),
  };

  function attention(scope: Scope, traits: DecoderTraits, biases: Biases, x: Value, layer: number): Value {
    const name = `${layerName(layer)}.self_attn`;
    const { heads, keyValueHeads, headSize } = scope.config.layers[layer];
    const project = (part: string, count: number) =>
      linear(scope, `${name}.${part}_proj`, x, count * headSize, biases.queryKeyValue);
    const normHeads = (part: string, value: Value, count: number) =>
      traits.queryKeyNorm ? headNorm(scope, value, `${name}.${part}_norm`, count, headSize) : value;
    const q = normHeads('q', project('q', heads), heads);
    const k = normHeads('k', project('k', keyValueHeads), keyValueHeads);
    const mixed = scope.attention(q, k, project('v', keyValueHeads), layer);
    return linear(scope, `${name}.o_proj`, mixed, scope.config.hidden, biases.output);
  }
}

function structureOf(name: string, plan: LayerPlan, biases: Biases): LayerStructure {
  const layer = (matrix: string, biased: boolean) => ({
    matrix: `${name}.${matrix}`,
    bias: biased ? `${name}.${matrix}.bias` : undefined,
  });
  const [q, k, v] = ['q', 'k', 'v'].map((part) => layer(`self_attn.${part}_proj`, biases.queryKeyValue));
  const output = layer('self_attn.o_proj', biases.output);
  const { heads, keyValueHeads, headSize, intermediate, experts } = plan;
  const attention: LayerStructure = {
    norms: [{ weight: `${name}.input_layernorm.weight`, readers: [q, k, v] }],
    writers: [output],
    passages: [
      { from: v.matrix, bias: v.bias, to: output.matrix, heads: { heads, keyValueHeads, headSize } },
    ],
  };
  const each = Array.from({ length: experts?.count ?? 1 }, (_, expert) =>
    ['gate', 'up', 'down'].map((part) =>
      layer(`mlp.${experts ? `experts.${expert}.` : ''}${part}_proj`, biases.feedForward),
    ),
  );
  const router = experts && layer('mlp.gate', false);
  const readers = [...(router ? [router] : []), ...each.flatMap(([gate, up]) => [gate!, up!])];
  const feedForward: LayerStructure = {
    norms: [{ weight: `${name}.post_attention_layernorm.weight`, readers: readers }],
    writers: each.map(([, , down]) => down!),
    passages: each.map(([, up, down]) => ({ from: up!.matrix, bias: up!.bias, to: down!.matrix })),
  };
  const parts = [...(heads > 0 ? [attention] : []), ...(intermediate > 0 ? [feedForward] : [])];
  return {
    norms: parts.flatMap(({ norms }) => norms),
    writers: parts.flatMap(({ writers }) => writers),
    passages: parts.flatMap(({ passages }) => passages),
    mixture: router && {
      router: router.matrix,
      experts: each.map((own) => own.map(({ matrix }) => matrix)),
    },
  };
}

/** One feed-forward, or a mixture of several. */
function feedForwards(scope: Scope, biases: Biases, x: Value, layer: number, name: string): Value {
  const { experts } = scope.config.layers[layer];
  if (!experts) return feedForward(scope, biases, x, layer, name);
  const scores = scope.linear(`${name}.gate`, x, experts.count);
  return mixture(x, scores, experts, (sent, index) =>
    feedForward(scope, biases, sent, layer, `${name}.experts.${index}`),
  );
}

function feedForward(scope: Scope, biases: Biases, x: Value, layer: number, name: string): Value {
  const width = scope.config.layers[layer].intermediate;
  const gate = linear(scope, `${name}.gate_proj`, x, width, biases.feedForward);
  const up = linear(scope, `${name}.up_proj`, x, width, biases.feedForward);
  return linear(scope, `${name}.down_proj`, mul(silu(gate), up), scope.config.hidden, biases.feedForward);
}

function linear(scope: Scope, name: string, x: Value, width: number, biased: boolean): Value {
  return scope.linear(name, x, width, biased ? `${name}.bias` : undefined);
}

function norm(scope: Scope, x: Value, name: string): Value {
  return rmsNorm(x, scope.vector(`${name}.weight`, scope.config.hidden), scope.config.normEpsilon);
}

/** The same norm for every head: over the last headSize values of each. */
function headNorm(scope: Scope, x: Value, name: string, heads: number, headSize: number): Value {
  const split = reshape(x, [...x.shape.slice(0, 2), heads, headSize]);
  const normed = rmsNorm(split, scope.vector(`${name}.weight`, headSize), scope.config.normEpsilon);
  return reshape(normed, x.shape);
}

function expertsIn(mixture: Mixture | undefined): ExpertsPlan | undefined {
  if (!mixture) return undefined;
  const { width: _, ...plan } = mixture;
  return plan;
}

/** Of feed-forwards, and of experts where some layers have these. */
function widthSettings({ mixtures }: DecoderTraits, layers: readonly LayerPlan[]): Json {
  const single = mixtures ? layers.filter(({ experts }) => !experts) : layers;
  const own = mixtures?.settings(layers);
  if (single.length === 0) return { ...own };
  // Of a mixture nobody reads it.
  const width = layers.map(({ intermediate, experts }) => (experts ? single[0]!.intermediate : intermediate));
  return { intermediate_size: asSetting(width), ...own };
}

function configure(traits: DecoderTraits, json: Json, mostLayers?: number): Configuration {
  const settings = { ...traits.absent, ...json };
  word(settings, 'hidden_act', ['silu', 'swish'], 'silu');
  const hidden = count(settings, 'hidden_size');
  const layers = count(settings, 'num_hidden_layers', undefined, mostLayers);
  const heads = counts(settings, 'num_attention_heads', layers);
  const keyValueHeads = counts(settings, 'num_key_value_heads', layers, heads);
  const most = Math.max(...heads, 1);
  const headSize = count(settings, 'head_dim', hidden / most);
  for (const [layer, count] of keyValueHeads.entries())
    if (count === 0 ? heads[layer] !== 0 : heads[layer] % count !== 0)
      throw wrongSetting('num_key_value_heads', `a divisor of the ${heads[layer]} heads`, count);
  if (headSize % 2 !== 0) throw wrongSetting('head_dim', 'an even number', headSize);
  const intermediate = counts(settings, 'intermediate_size', layers);
  const windows = traits.windows?.(settings, layers);
  const mixtures = traits.mixtures?.read(settings, layers);
  const rope = readRope(json);
  const plan = (layer: number): LayerPlan => ({
    heads: heads[layer],
    keyValueHeads: keyValueHeads[layer],
    headSize,
    intermediate: mixtures?.[layer]?.width ?? intermediate[layer],
    window: windows?.[layer],
    rope,
    experts: expertsIn(mixtures?.[layer]),
  });
  const context = count(settings, 'max_position_embeddings', 2048);
  const normEpsilon = positive(settings, 'rms_norm_eps', 1e-6);
  const tiedHead = flag(settings, 'tie_word_embeddings', false);
  return {
    modelType: traits.modelType,
    hidden,
    vocabulary: count(settings, 'vocab_size'),
    context,
    layers: Array.from({ length: layers }, (_, layer) => plan(layer)),
    normEpsilon,
    tiedHead,
    exits: readExits(json, layers),
    bos: tokens(json, 'bos_token_id')[0],
    eos: tokens(json, 'eos_token_id'),
    // What is left out is taken for something else by other engines, or asked for.
    json: {
      ...settings,
      num_key_value_heads: asSetting(keyValueHeads),
      head_dim: headSize,
      max_position_embeddings: context,
      rms_norm_eps: normEpsilon,
      tie_word_embeddings: tiedHead,
    },
  };
}
