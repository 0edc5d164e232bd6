/** Models on the disk that the command line can work on in a second or two, with the tokenizer that ships. */

import { copyFileSync, cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { random } from '../../src/base/random.ts';
import type { Stored } from '../../src/base/tensor.ts';
import { stored } from '../../src/base/tensor.ts';
import { openSafetensors } from '../../src/io/safetensors/read.ts';
import { writeSafetensors } from '../../src/io/safetensors/write.ts';
import { shipped } from '../../src/open.ts';

/**
 * Eight layers of 64, 378,000 parameters; the head is the embedding.
 * @param json what config.json says otherwise: model_type mistral, a window, other widths, qwen3_moe with experts, exits, of which
 *   the last has a matrix of its own
 */
export async function writeTinyCheckpoint(
  folder: string,
  json: Readonly<Record<string, unknown>> & {
    readonly intermediate_size?: number;
    readonly num_hidden_layers?: number;
    readonly early_exit_layers?: readonly number[];
    readonly num_attention_heads?: number;
    readonly num_experts?: number;
  } = {},
): Promise<void> {
  const [vocabulary, hidden] = [2048, 64];
  const { intermediate_size: inner = 96, num_hidden_layers: layers = 8, num_experts: experts } = json;
  const { early_exit_layers: exits = [] } = json;
  const headSize = hidden / (json.num_attention_heads ?? 2);
  mkdirSync(folder, { recursive: true });
  for (const name of ['tokenizer.json', 'tokenizer_config.json']) {
    copyFileSync(join(shipped.folder, name), join(folder, name));
  }
  const config = {
    model_type: 'llama',
    vocab_size: vocabulary,
    hidden_size: hidden,
    intermediate_size: inner,
    num_hidden_layers: layers,
    num_attention_heads: 2,
    num_key_value_heads: 1,
    max_position_embeddings: 64,
    tie_word_embeddings: true,
    bos_token_id: 1,
    eos_token_id: 2,
    ...(experts === undefined ? {} : { head_dim: headSize, moe_intermediate_size: inner }),
    ...json,
  };
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
  const tensors = new Map<string, Stored>();
  const add = (name: string, ...shape: number[]) => {
    const { normal } = random(1).fork(name);
    const count = shape.reduce((a, b) => a * b);
    const values = Float32Array.from({ length: count }, () => (shape.length > 1 ? 0.2 * normal() : 1));
    tensors.set(`${name}.weight`, stored('float32', shape, values));
  };
  add('model.embed_tokens', vocabulary, hidden);
  for (let index = 0; index < layers; index++) {
    const layer = `model.layers.${index}`;
    add(`${layer}.input_layernorm`, hidden);
    add(`${layer}.self_attn.q_proj`, hidden, hidden);
    add(`${layer}.self_attn.k_proj`, hidden / 2, hidden);
    add(`${layer}.self_attn.v_proj`, hidden / 2, hidden);
    add(`${layer}.self_attn.o_proj`, hidden, hidden);
    add(`${layer}.post_attention_layernorm`, hidden);
    if (experts !== undefined) {
      add(`${layer}.mlp.gate`, experts, hidden);
      for (const norm of ['q_norm', 'k_norm']) add(`${layer}.self_attn.${norm}`, headSize);
    }
    for (let expert = 0; expert < (experts ?? 1); expert++) {
      const mlp = `${layer}.mlp${experts === undefined ? '' : `.experts.${expert}`}`;
      add(`${mlp}.gate_proj`, inner, hidden);
      add(`${mlp}.up_proj`, inner, hidden);
      add(`${mlp}.down_proj`, hidden, inner);
    }
  }
  add('model.norm', hidden);
  for (const exit of exits) add(`exits.${exit}.norm`, hidden);
  if (exits.length > 0) add(`exits.${exits.at(-1)}.head`, vocabulary, hidden);
  await writeSafetensors(join(folder, 'model.safetensors'), tensors);
}

/** A model's folder with a chat template and so a model that answers. */
export function addChatTemplate(folder: string): void {
  const path = join(folder, 'tokenizer_config.json');
  const template =
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}";
  const settings = JSON.parse(readFileSync(path, 'utf8'));
  writeFileSync(path, JSON.stringify({ ...settings, chat_template: template }));
}

/** The model that ships, of as wide matrices, without all of its blocks but the first two, or as many as are asked for. */
export async function writeShortPebble(folder: string, blocks = 2): Promise<void> {
  cpSync(shipped.folder, folder, { recursive: true });
  const config = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'));
  writeFileSync(join(folder, 'config.json'), JSON.stringify({ ...config, num_hidden_layers: blocks }));
  const { tensors } = openSafetensors(join(shipped.folder, 'model.safetensors'));
  const kept = [...tensors].filter(([name]) => Number(/layers\.(\d+)/.exec(name)?.[1] ?? 0) < blocks);
  await writeSafetensors(join(folder, 'model.safetensors'), new Map(kept));
}
