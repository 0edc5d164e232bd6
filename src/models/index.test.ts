import { describe, expect, it } from 'vitest';
import type { Stored } from '../base/tensor.ts';
import { byteLength } from '../base/tensor.ts';
import { loadModel } from './index.ts';

const json = {
  model_type: 'llama',
  vocab_size: 10,
  hidden_size: 8,
  intermediate_size: 12,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  num_key_value_heads: 1,
};

/** A tensor whose bytes must not be read: loading looks at shapes alone. */
function sealed(...shape: number[]): Stored {
  const bytes = () => {
    throw new Error('read');
  };
  return { dtype: 'bfloat16', shape, byteLength: byteLength('bfloat16', shape), bytes };
}

function llamaTensors(): Map<string, Stored> {
  const layer = 'model.layers.0';
  return new Map([
    ['model.embed_tokens.weight', sealed(10, 8)],
    [`${layer}.input_layernorm.weight`, sealed(8)],
    [`${layer}.self_attn.q_proj.weight`, sealed(8, 8)],
    [`${layer}.self_attn.k_proj.weight`, sealed(4, 8)],
    [`${layer}.self_attn.v_proj.weight`, sealed(4, 8)],
    [`${layer}.self_attn.o_proj.weight`, sealed(8, 8)],
    [`${layer}.post_attention_layernorm.weight`, sealed(8)],
    [`${layer}.mlp.gate_proj.weight`, sealed(12, 8)],
    [`${layer}.mlp.up_proj.weight`, sealed(12, 8)],
    [`${layer}.mlp.down_proj.weight`, sealed(8, 12)],
    ['model.norm.weight', sealed(8)],
    ['lm_head.weight', sealed(10, 8)],
  ]);
}

function load(tensors: Map<string, Stored>, changes: object = {}, warn?: (line: string) => void) {
  return loadModel({ source: 'here', json: { ...json, ...changes }, tensors, files: new Map() }, warn);
}

describe('a checkpoint as a model', () => {
  it('has every matrix and vector under its name, and reads none', () => {
    const model = load(llamaTensors());
    expect(model.matrices.size).toBe(9);
    expect(model.matrices.get('model.layers.0.mlp.down_proj')?.shape).toEqual([8, 12]);
    expect([...model.vectors.keys()]).toEqual([
      'model.layers.0.input_layernorm.weight',
      'model.layers.0.post_attention_layernorm.weight',
      'model.norm.weight',
    ]);
  });

  it('needs no head where it is tied to the embedding', () => {
    const warnings: string[] = [];
    const tensors = llamaTensors();
    tensors.delete('lm_head.weight');
    const model = load(tensors, { tie_word_embeddings: true }, (line) => warnings.push(line));
    expect(model.config.tiedHead).toBe(true);
    expect(warnings).toEqual([]);
  });

  it('may have the names of a body without its head', () => {
    const bare = [...llamaTensors()].map(([name, tensor]) => [name.replace(/^model\./, ''), tensor] as const);
    expect([...load(new Map(bare)).matrices.keys()]).toContain('model.layers.0.mlp.down_proj');
  });

  it('takes ends and fillers from generation_config.json first, and none that has no row', () => {
    const generation = { eos_token_id: [3, 4, 99], pad_token_id: 12 };
    const files = new Map([['generation_config.json', () => Buffer.from(JSON.stringify(generation))]]);
    const settings = { ...json, bos_token_id: 1, eos_token_id: 2, pad_token_id: 0 };
    const { config } = loadModel({ source: 'here', json: settings, tensors: llamaTensors(), files });
    expect(config).toMatchObject({ bos: 1, eos: [3, 4], pad: undefined });
  });

  it.each([...llamaTensors().keys()])('is refused without %s', (name) => {
    const tensors = llamaTensors();
    tensors.delete(name);
    expect(() => load(tensors)).toThrowError(`${name}: the checkpoint lacks`);
  });

  it.each([...llamaTensors().keys()])('is refused with another shape of %s', (name) => {
    const tensors = llamaTensors();
    const { shape } = tensors.get(name)!;
    tensors.set(name, sealed(...shape.slice(0, -1), shape[shape.length - 1] + 1));
    expect(() => load(tensors)).toThrowError(
      new RegExp(`${name}: a tensor has another shape[\\s\\S]*expected: \\[${shape.join(', ')}\\]`),
    );
  });

  it('is refused with a matrix of integers, by name', () => {
    const tensors = llamaTensors();
    tensors.set('lm_head.weight', { ...sealed(10, 8), dtype: 'int8' });
    expect(() => load(tensors)).toThrowError(/lm_head\.weight[\s\S]*int8/);
  });

  it('is refused where it is quantized in a format that is not known', () => {
    const settings = { quantization_config: { quant_method: 'bitsandbytes' } };
    expect(() => load(llamaTensors(), settings)).toThrowError(/not known(.|\n)*gptq(.|\n)*bitsandbytes/);
  });
});

describe('GPT-2 as its first checkpoints name it', () => {
  it('is found without "transformer.", and its [in, out] matrices are turned', () => {
    const vectors = ['ln_1.weight', 'ln_1.bias', 'ln_2.weight', 'ln_2.bias'].map(
      (name) => [`h.0.${name}`, [4]] as const,
    );
    const shapes: readonly (readonly [string, readonly number[]])[] = [
      ['wte.weight', [10, 4]],
      ['wpe.weight', [6, 4]],
      ...vectors,
      ['h.0.attn.c_attn.weight', [4, 12]],
      ['h.0.attn.c_attn.bias', [12]],
      ['h.0.attn.c_proj.weight', [4, 4]],
      ['h.0.attn.c_proj.bias', [4]],
      ['h.0.mlp.c_fc.weight', [4, 16]],
      ['h.0.mlp.c_fc.bias', [16]],
      ['h.0.mlp.c_proj.weight', [16, 4]],
      ['h.0.mlp.c_proj.bias', [4]],
      ['ln_f.weight', [4]],
      ['ln_f.bias', [4]],
    ];
    const tensors = new Map(shapes.map(([name, shape]) => [name, sealed(...shape)]));
    const codes = Uint16Array.from({ length: 48 }, (_, i) => i);
    tensors.set('h.0.attn.c_attn.weight', { ...sealed(4, 12), bytes: () => new Uint8Array(codes.buffer) });
    const gpt2 = { model_type: 'gpt2', vocab_size: 10, n_embd: 4, n_head: 2, n_layer: 1, n_positions: 6 };
    const model = loadModel({ source: 'here', json: gpt2, tensors, files: new Map() });
    const turned = model.matrices.get('transformer.h.0.attn.c_attn')!;
    expect(turned.shape).toEqual([12, 4]);
    const bytes = turned.tensors.get('weight')!.bytes();
    expect([...new Uint16Array(bytes.buffer).subarray(0, 8)]).toEqual([0, 12, 24, 36, 1, 13, 25, 37]);
  });
});
