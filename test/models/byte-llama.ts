/** The smallest checkpoint that all engines load: a random Llama over bytes, to be made odd in one way. */

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { random } from '../../src/base/random.ts';
import type { Stored } from '../../src/base/tensor.ts';
import { stored } from '../../src/base/tensor.ts';
import { writeSafetensors } from '../../src/io/safetensors/write.ts';
import { byteTokenizer } from '../engines/models.ts';

export interface Oddity {
  /** Over the settings that it has. */
  readonly config?: Readonly<Record<string, unknown>>;
  readonly tokenizerConfig?: Readonly<Record<string, unknown>>;
  /** Other files, by name; text as it is. */
  readonly files?: Readonly<Record<string, unknown>>;
  /** Added to its tensors; undefined takes one out. */
  readonly tensors?: Readonly<Record<string, Stored | undefined>>;
  /** Tokens behind "<s>" (256) and "</s>" (257). */
  readonly added?: readonly string[];
}

export const sizes = { rows: 272, hidden: 32, inner: 64 };

/** Normal values, the same for the same name. */
export function noise(name: string, ...shape: number[]): Stored {
  const { normal } = random(1).fork(name);
  const values = Float32Array.from({ length: shape.reduce((a, b) => a * b) }, () => 0.3 * normal());
  return stored('float32', shape, values);
}

/** One layer of 32, two heads of 16 and one of keys and values; 256 bytes, BOS, EOS and rows that no token has. */
export async function writeByteLlama(folder: string, oddity: Oddity = {}): Promise<string> {
  mkdirSync(folder, { recursive: true });
  const rows = (oddity.config?.vocab_size as number | undefined) ?? sizes.rows;
  const { hidden, inner } = sizes;
  const config = {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    vocab_size: rows,
    hidden_size: hidden,
    intermediate_size: inner,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    num_key_value_heads: 1,
    max_position_embeddings: 128,
    rms_norm_eps: 1e-5,
    bos_token_id: 256,
    eos_token_id: 257,
    tie_word_embeddings: false,
    ...oddity.config,
  };
  const json = (value: unknown) => (typeof value === 'string' ? value : JSON.stringify(value));
  const definition = JSON.parse(Buffer.from(byteTokenizer().get('tokenizer.json')!()).toString());
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  definition.added_tokens = ['<s>', '</s>', ...(oddity.added ?? [])].map((content, i) => ({
    id: 256 + i,
    content,
    ...flags,
  }));
  const files: Record<string, unknown> = {
    'config.json': config,
    'tokenizer.json': definition,
    'tokenizer_config.json': {
      tokenizer_class: 'PreTrainedTokenizerFast',
      bos_token: '<s>',
      eos_token: '</s>',
      ...oddity.tokenizerConfig,
    },
    ...oddity.files,
  };
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), json(content));
  const layer = 'model.layers.0';
  const shapes: Record<string, number[]> = {
    'model.embed_tokens': [rows, hidden],
    [`${layer}.self_attn.q_proj`]: [hidden, hidden],
    [`${layer}.self_attn.k_proj`]: [hidden / 2, hidden],
    [`${layer}.self_attn.v_proj`]: [hidden / 2, hidden],
    [`${layer}.self_attn.o_proj`]: [hidden, hidden],
    [`${layer}.mlp.gate_proj`]: [inner, hidden],
    [`${layer}.mlp.up_proj`]: [inner, hidden],
    [`${layer}.mlp.down_proj`]: [hidden, inner],
    [`${layer}.input_layernorm`]: [hidden],
    [`${layer}.post_attention_layernorm`]: [hidden],
    'model.norm': [hidden],
    ...(config.tie_word_embeddings ? {} : { lm_head: [rows, hidden] }),
  };
  const tensors: Record<string, Stored | undefined> = Object.fromEntries(
    Object.entries(shapes).map(([name, shape]) => [`${name}.weight`, noise(name, ...shape)]),
  );
  const present = Object.entries({ ...tensors, ...oddity.tensors }).filter(
    (entry): entry is [string, Stored] => entry[1] !== undefined,
  );
  await writeSafetensors(join(folder, 'model.safetensors'), new Map(present));
  return folder;
}
