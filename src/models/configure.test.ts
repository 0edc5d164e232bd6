import { describe, expect, it } from 'vitest';
import { openCheckpoint } from '../io/checkpoint.ts';
import { bloom } from './architectures/bloom.ts';
import { falcon } from './architectures/falcon.ts';
import { gemma } from './architectures/gemma.ts';
import { gemma2 } from './architectures/gemma2.ts';
import { gemma3Text } from './architectures/gemma3-text.ts';
import { gpt2 } from './architectures/gpt2.ts';
import { gptNeo } from './architectures/gpt-neo.ts';
import { gptNeox } from './architectures/gpt-neox.ts';
import { llama } from './architectures/llama.ts';
import { mistral } from './architectures/mistral.ts';
import { opt } from './architectures/opt.ts';
import { phi } from './architectures/phi.ts';
import { loadModel } from './index.ts';
import { qwen2 } from './architectures/qwen2.ts';
import { qwen3 } from './architectures/qwen3.ts';

const sizes = {
  vocab_size: 100,
  hidden_size: 64,
  intermediate_size: 96,
  num_hidden_layers: 4,
  num_attention_heads: 4,
};

describe('config.json of a decoder', () => {
  it('gives every layer its plan', () => {
    const config = llama.configure({
      ...sizes,
      num_key_value_heads: 2,
      eos_token_id: [2, 3],
      bos_token_id: 1,
    });
    expect(config.layers).toHaveLength(4);
    expect(config.layers[0]).toEqual({
      heads: 4,
      keyValueHeads: 2,
      headSize: 16,
      intermediate: 96,
      rope: { theta: 10000 },
    });
    expect(config).toMatchObject({ hidden: 64, vocabulary: 100, tiedHead: false, bos: 1, eos: [2, 3] });
  });

  it('may leave out what transformers knows', () => {
    expect(llama.configure(sizes).layers[0].keyValueHeads).toBe(4);
    expect(llama.configure({ ...sizes, head_dim: null }).layers[0].headSize).toBe(16);
    expect(qwen3.configure({ ...sizes, num_key_value_heads: 4 }).layers[0].headSize).toBe(128);
    expect(mistral.configure({ ...sizes, num_key_value_heads: 4 }).layers[0].window).toBe(4096);
  });

  it.each([
    ['hidden_size', 0],
    ['num_hidden_layers', 1.5],
    ['num_hidden_layers', '4'],
    ['num_attention_heads', -1],
    ['num_key_value_heads', 3],
    ['head_dim', 7],
    ['hidden_act', 'relu'],
    ['rms_norm_eps', 'small'],
    ['tie_word_embeddings', 'yes'],
    ['is_causal', false],
    ['eos_token_id', ['</s>']],
  ])('is refused with "%s": %j, by its key', (key, value) => {
    expect(() => llama.configure({ ...sizes, [key]: value })).toThrowError(`"${key}"`);
  });

  it('is refused without a size', () => {
    expect(() => llama.configure({ ...sizes, vocab_size: undefined })).toThrowError(
      /"vocab_size"[\s\S]*nothing/,
    );
  });
});

describe('windows', () => {
  const window = (json: object) =>
    qwen2.configure({ ...sizes, num_key_value_heads: 4, ...json }).layers.map((l) => l.window);

  it('of Mistral are in all layers, or in none where it is null', () => {
    const layers = (json: object) => mistral.configure({ ...sizes, num_key_value_heads: 4, ...json }).layers;
    expect(layers({ sliding_window: 8 }).map((layer) => layer.window)).toEqual([8, 8, 8, 8]);
    expect(layers({ sliding_window: null })[0].window).toBeUndefined();
  });

  it('of Qwen need use_sliding_window', () => {
    expect(window({ sliding_window: 8, max_window_layers: 0 })).toEqual([
      undefined,
      undefined,
      undefined,
      undefined,
    ]);
  });

  it('of Qwen begin at max_window_layers', () => {
    const json = { use_sliding_window: true, sliding_window: 8, max_window_layers: 3 };
    expect(window(json)).toEqual([undefined, undefined, undefined, 8]);
  });

  it('of Qwen follow layer_types where they are given', () => {
    const types = ['sliding_attention', 'full_attention', 'sliding_attention', 'full_attention'];
    const json = { use_sliding_window: true, sliding_window: 8, max_window_layers: 3, layer_types: types };
    expect(window(json)).toEqual([8, undefined, 8, undefined]);
    expect(() => window({ layer_types: ['full_attention'] })).toThrowError(/"layer_types"[\s\S]*a list of 4/);
    expect(() => window({ layer_types: [...types.slice(0, 3), 'chunked_attention'] })).toThrowError(
      /"layer_types"/,
    );
  });
});

describe('config.json of GPT-2', () => {
  it('has its own names', () => {
    const config = gpt2.configure({ n_embd: 32, n_head: 4, n_layer: 2, vocab_size: 50, n_positions: 16 });
    expect(config.layers).toEqual(
      new Array(2).fill({ heads: 4, keyValueHeads: 4, headSize: 8, intermediate: 128 }),
    );
    expect(config).toMatchObject({ hidden: 32, context: 16, tiedHead: true });
    expect(config.layers.map(({ rope }) => rope)).toEqual([undefined, undefined]);
  });

  it.each([
    ['activation_function', 'swish'],
    ['scale_attn_by_inverse_layer_idx', true],
    ['scale_attn_weights', false],
    ['is_causal', false],
    ['n_head', 5],
  ])('is refused with "%s": %j', (key, value) => {
    expect(() => gpt2.configure({ n_embd: 32, n_head: 4, [key]: value })).toThrowError(`"${key}"`);
  });
});

describe('config.json of a Gemma', () => {
  const refused = [
    [gemma, 'use_bidirectional_attention', true],
    [gemma3Text, 'use_bidirectional_attention', 'all'],
    [gemma2, 'hidden_activation', 'gelu'],
    [gemma3Text, 'hidden_activation', 'relu'],
    [gemma3Text, 'attn_logit_softcapping', 50],
  ] as const;
  const json = { ...sizes, num_key_value_heads: 4, sliding_window: 8 };

  it.each(
    refused.map(([architecture, key, value]) => [architecture.modelType, key, value, architecture] as const),
  )('%s is refused with "%s": %j, by its key', (_, key, value, architecture) => {
    expect(() => architecture.configure(json)).not.toThrow();
    expect(() => architecture.configure({ ...json, [key]: value })).toThrowError(`"${key}"`);
  });

  it('may say "gelu" under its older key, and mean the tanh form', () => {
    expect(() => gemma.configure({ ...json, hidden_act: 'gelu', hidden_activation: null })).not.toThrow();
  });
});

describe('config.json of older decoders', () => {
  const refused = [
    [phi, 'qk_layernorm', true],
    [phi, 'hidden_act', 'quick_gelu'],
    [phi, 'partial_rotary_factor', 0.2],
    [gptNeox, 'head_dim', 8],
    [gptNeox, 'hidden_act', 'gelu_10'],
    [gptNeo, 'attention_types', [[['global', 'local'], 1]]],
    [gptNeo, 'attention_types', [[['global', 'strided'], 2]]],
    [gptNeo, 'num_hidden_layers', 5],
    [opt, 'do_layer_norm_before', false],
    [opt, 'word_embed_proj_dim', 32],
    [opt, '_remove_final_layer_norm', true],
    [opt, 'layer_norm_elementwise_affine', false],
    [opt, 'layer_norm_eps', 1e-6],
    [falcon, 'apply_residual_connection_post_layernorm', true],
    [falcon, 'parallel_attn', false],
    [falcon, 'num_ln_in_parallel_attn', 3],
    [bloom, 'apply_residual_connection_post_layernorm', true],
    [bloom, 'slow_but_exact', true],
    [bloom, 'n_embed', 32],
  ] as const;

  it.each(
    refused.map(([architecture, key, value]) => [architecture.modelType, key, value, architecture] as const),
  )('%s is refused with "%s": %j, by its key', (_, key, value, architecture) => {
    const own = { num_layers: 4, num_heads: 4, n_layer: 4, n_head: 4, ffn_dim: 96 };
    const json = { ...sizes, ...own, attention_types: [[['global'], 4]], [key]: value };
    expect(() => architecture.configure(json)).toThrowError(`"${key}"`);
  });

  it('may use older names of keys', () => {
    const { num_hidden_layers, num_attention_heads } = sizes;
    const older = { vocab_size: 100, n_embed: 64, num_hidden_layers, num_attention_heads, n_inner: null };
    const config = bloom.configure(older);
    expect(config.hidden).toBe(64);
    expect(config.layers).toHaveLength(4);
    expect(config.layers[0]).toMatchObject({ heads: 4, headSize: 16, intermediate: 256 });
    expect(config.json).toMatchObject({ hidden_size: 64, n_layer: 4, n_head: 4 });
    expect(config.json).not.toHaveProperty('n_embed');
    const { layers } = gptNeox.configure({ ...sizes, rotary_pct: 0.5, rotary_emb_base: 500 });
    expect(layers[0].rope).toEqual({ theta: 500, share: 0.5 });
  });

  it('says which layers of GPT-Neo see a window, also when some are gone', () => {
    const json = { ...sizes, attention_types: [[['global', 'local'], 2]], window_size: 8 };
    const { layers } = gptNeo.configure(json);
    expect(layers.map(({ window }) => window)).toEqual([undefined, 8, undefined, 8]);
    const kept = { ...json, ...gptNeo.settings(layers.slice(1)), num_hidden_layers: undefined };
    expect(gptNeo.configure(kept).layers.map(({ window }) => window)).toEqual([8, undefined, 8]);
  });

  it('of Falcon says that heads share a key in the words of groups, which every engine reads alike', () => {
    const { layers, json } = falcon.configure({ ...sizes, multi_query: true, num_kv_heads: 4 });
    expect(layers[0]).toMatchObject({ heads: 4, keyValueHeads: 1 });
    expect(json).toMatchObject({ new_decoder_architecture: true, num_kv_heads: 1, multi_query: false });
    expect(json).not.toHaveProperty('head_dim');
    expect(falcon.configure(json).layers).toEqual(layers);
  });
});

describe('what contradicts itself or the weights', () => {
  const folder = (name: string) => `test/models/${name}`;
  const loaded = async (name: string, json: object) => {
    const checkpoint = await openCheckpoint(folder(name));
    return loadModel({ ...checkpoint, json: { ...checkpoint.json, ...json } });
  };

  it.each([
    ['phi3', { num_key_value_heads: 1 }, /qkv_proj[\s\S]*\[72, 48\][\s\S]*\[96, 48\]/],
    ['gpt_neo', { attention_layers: ['local', 'local', 'local', 'local'] }, /"attention_layers"/],
    ['gemma3_text', { rope_scaling: { type: 'linear', factor: 4 } }, /"rope_scaling"/],
    ['phi3-longrope', { original_max_position_embeddings: 8 }, /"original_max_position_embeddings"/],
  ])('is refused: %s, %o', async (name, json, message) => {
    await expect(loaded(name, json)).rejects.toThrowError(message);
  });

  it.each(['bloom', 'gpt_neox'])('%s has as many keys and values as queries', async (name) => {
    const model = await loaded(name, { num_key_value_heads: 1 });
    expect(model.config.layers.every(({ heads, keyValueHeads }) => heads === keyValueHeads)).toBe(true);
  });
});
