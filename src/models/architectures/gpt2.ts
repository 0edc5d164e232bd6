/** GPT-2 (Radford et al. 2019): learned positions, LayerNorm with bias, query, key and value in one matrix. */

import type { Value } from '../../graph/graph.ts';
import { add, gelu, layerNorm, relu, split } from '../../graph/ops.ts';
import { exitNames, exitStructures, readExits } from '../exits.ts';
import type { Architecture, Configuration, Scope } from '../model.ts';
import type { Json } from '../settings.ts';
import { count, flag, positive, tokens, word, wrongSetting } from '../settings.ts';

const activations = ['gelu_new', 'gelu_pytorch_tanh', 'gelu_fast', 'gelu', 'relu'] as const;

const headOf = ({ tiedHead }: Configuration) => (tiedHead ? 'transformer.wte' : 'lm_head');

const layerName = (layer: number) => `transformer.h.${layer}`;

export const gpt2: Architecture = {
  modelType: 'gpt2',
  classes: { causal: 'GPT2LMHeadModel', base: 'GPT2Model' },
  configure,
  // The causal mask.
  computed: (name) => /\.attn\.(bias|masked_bias)$/.test(name),
  // Its projections are "Conv1D" layers.
  transposed: (name) => /\.(c_attn|c_proj|c_fc)$/.test(name),
  omittedPrefix: 'transformer.',
  layerName,
  embed(scope, ids) {
    const positions = scope.embedding('transformer.wpe', scope.positions(), scope.config.context);
    return add(scope.embedding('transformer.wte', ids), positions);
  },
  block(scope, x, layer) {
    const name = layerName(layer);
    const attended = add(x, attention(scope, norm(scope, x, `${name}.ln_1`), layer));
    return add(attended, feedForward(scope, norm(scope, attended, `${name}.ln_2`), layer));
  },
  head(scope, x, exit) {
    const last = { norm: 'transformer.ln_f', head: headOf(scope.config) };
    const names = exit === undefined ? last : exitNames(exit);
    return scope.linear(names.head, norm(scope, x, names.norm), scope.config.vocabulary);
  },
  structure(_, layer) {
    const name = layerName(layer);
    const biased = (matrix: string) => ({ matrix: `${name}.${matrix}`, bias: `${name}.${matrix}.bias` });
    const normed = (part: string, matrix: string) => ({
      weight: `${name}.${part}.weight`,
      bias: `${name}.${part}.bias`,
      readers: [biased(matrix)],
    });
    return {
      norms: [normed('ln_1', 'attn.c_attn'), normed('ln_2', 'mlp.c_fc')],
      writers: [biased('attn.c_proj'), biased('mlp.c_proj')],
      // Values stand in one matrix with queries and keys; the activation passes no scale.
      passages: [],
      attention: [`${name}.attn.c_attn`, `${name}.attn.c_proj`],
      feedForward: [`${name}.mlp.c_fc`, `${name}.mlp.c_proj`],
      compared: [`${name}.attn.c_attn`],
    };
  },
  settings(layers) {
    const [{ heads, intermediate }] = layers;
    if (layers.some((layer) => layer.heads !== heads || layer.intermediate !== intermediate))
      throw wrongSetting('n_head', 'GPT-2 with layers of one width', layers);
    return { n_layer: layers.length, n_head: heads, n_inner: intermediate };
  },
  around: (config) => ({
    tables: ['transformer.wte', 'transformer.wpe'],
    norm: {
      weight: 'transformer.ln_f.weight',
      bias: 'transformer.ln_f.bias',
      readers: [{ matrix: headOf(config) }],
    },
    exits: exitStructures(config, { bias: 'transformer.ln_f.bias' }),
    centered: true,
  }),
};

function attention(scope: Scope, x: Value, layer: number): Value {
  const name = `${layerName(layer)}.attn`;
  const { heads, headSize } = scope.config.layers[layer];
  const width = heads * headSize;
  const joined = scope.linear(`${name}.c_attn`, x, 3 * width, `${name}.c_attn.bias`);
  const [q, k, v] = split(joined, [width, width, width], -1);
  const mixed = scope.attention(q, k, v, layer);
  return scope.linear(`${name}.c_proj`, mixed, scope.config.hidden, `${name}.c_proj.bias`);
}

function feedForward(scope: Scope, x: Value, layer: number): Value {
  const name = `${layerName(layer)}.mlp`;
  const width = scope.config.layers[layer].intermediate;
  const up = scope.linear(`${name}.c_fc`, x, width, `${name}.c_fc.bias`);
  return scope.linear(`${name}.c_proj`, activate(scope, up), scope.config.hidden, `${name}.c_proj.bias`);
}

function activate(scope: Scope, x: Value): Value {
  const kind = word(scope.config.json, 'activation_function', activations, 'gelu_new');
  if (kind === 'relu') return relu(x);
  return gelu(x, kind === 'gelu' ? 'erf' : 'tanh');
}

function norm(scope: Scope, x: Value, name: string): Value {
  const size = scope.config.hidden;
  const [weight, bias] = [scope.vector(`${name}.weight`, size), scope.vector(`${name}.bias`, size)];
  return layerNorm(x, weight, bias, scope.config.normEpsilon);
}

function configure(json: Json, mostLayers?: number): Configuration {
  word(json, 'activation_function', activations, 'gelu_new');
  refuseUnlessDefault(json, 'scale_attn_weights', true);
  refuseUnlessDefault(json, 'scale_attn_by_inverse_layer_idx', false);
  refuseUnlessDefault(json, 'add_cross_attention', false);
  refuseUnlessDefault(json, 'is_causal', true);
  const hidden = count(json, 'n_embd', 768);
  const heads = count(json, 'n_head', 12);
  if (hidden % heads !== 0) throw wrongSetting('n_head', `a divisor of n_embd, ${hidden}`, heads);
  const layers = count(json, 'n_layer', 12, mostLayers);
  const layer = {
    heads,
    keyValueHeads: heads,
    headSize: hidden / heads,
    intermediate: count(json, 'n_inner', 4 * hidden),
  };
  return {
    modelType: 'gpt2',
    hidden,
    vocabulary: count(json, 'vocab_size', 50257),
    context: count(json, 'n_positions', 1024),
    layers: new Array(layers).fill(layer),
    normEpsilon: positive(json, 'layer_norm_epsilon', 1e-5),
    tiedHead: flag(json, 'tie_word_embeddings', true),
    exits: readExits(json, layers),
    bos: tokens(json, 'bos_token_id')[0],
    eos: tokens(json, 'eos_token_id'),
    json,
  };
}

function refuseUnlessDefault(json: Json, key: string, value: boolean): void {
  if (flag(json, key, value) !== value) throw wrongSetting(key, String(value), json[key]);
}
