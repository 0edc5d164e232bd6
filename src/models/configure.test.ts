import { describe, expect, it } from 'vitest';
import { gpt2 } from './architectures/gpt2.ts';
import { llama } from './architectures/llama.ts';
import { mistral } from './architectures/mistral.ts';
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
    ['n_head', 5],
  ])('is refused with "%s": %j', (key, value) => {
    expect(() => gpt2.configure({ n_embd: 32, n_head: 4, [key]: value })).toThrowError(`"${key}"`);
  });
});
