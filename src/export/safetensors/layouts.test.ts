/** Folders in GPTQ's, AWQ's and MLX's formats: what config.json says of them, and that they open as what was written. */

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openGolden } from '../../../test/engines/models.ts';
import { random } from '../../base/random.ts';
import { stored } from '../../base/tensor.ts';
import { openCheckpoint } from '../../io/checkpoint.ts';
import { rtn } from '../../methods/quantize/rtn.ts';
import { loadModel } from '../../models/index.ts';
import type { Model } from '../../models/model.ts';
import { linearLayers } from '../../models/size.ts';
import { awqLayout } from './awq.ts';
import type { CheckpointLayout } from './folder.ts';
import { writeCheckpoint } from './folder.ts';
import { gptqLayout } from './gptq.ts';
import { mlxLayout } from './mlx.ts';
import { verifyCheckpoint } from './verify.ts';

const root = mkdtempSync(join(tmpdir(), 'lapidary-layouts-'));
afterAll(() => rmSync(root, { recursive: true }));
const ids = Int32Array.from({ length: 24 }, (_, i) => (i * 7) % 64);
const down = 'model.layers.1.mlp.down_proj';

/** Llama with a vocabulary of 64, hidden 64, intermediate 96, two layers, and a tied head. */
function small(): Model {
  const json = {
    model_type: 'llama',
    vocab_size: 64,
    hidden_size: 64,
    intermediate_size: 96,
    num_hidden_layers: 2,
    num_attention_heads: 2,
    num_key_value_heads: 1,
    max_position_embeddings: 32,
    tie_word_embeddings: true,
  };
  const layer = (at: number): [string, ...number[]][] => [
    [`model.layers.${at}.input_layernorm`, 64],
    [`model.layers.${at}.self_attn.q_proj`, 64, 64],
    [`model.layers.${at}.self_attn.k_proj`, 32, 64],
    [`model.layers.${at}.self_attn.v_proj`, 32, 64],
    [`model.layers.${at}.self_attn.o_proj`, 64, 64],
    [`model.layers.${at}.post_attention_layernorm`, 64],
    [`model.layers.${at}.mlp.gate_proj`, 96, 64],
    [`model.layers.${at}.mlp.up_proj`, 96, 64],
    [`model.layers.${at}.mlp.down_proj`, 64, 96],
  ];
  const tensors = new Map(
    [['model.embed_tokens', 64, 64] as const, ...layer(0), ...layer(1), ['model.norm', 64] as const].map(
      ([name, ...shape]) => {
        const { normal } = random(3).fork(name);
        const values = Float32Array.from({ length: shape.reduce((a, b) => a * b) }, () => 0.3 * normal());
        return [`${name}.weight`, stored('float32', shape, values)] as const;
      },
    ),
  );
  return loadModel({ source: 'small', json, tensors, files: new Map() });
}

/** Every matrix that multiplies, by its options; undefined: it stays dense. */
async function compressed(options: (name: string) => Record<string, unknown> | undefined): Promise<Model> {
  const model = small();
  const matrices = new Map(model.matrices);
  for (const { name, encoding } of linearLayers(model)) {
    const choice = options(name);
    if (!choice) continue;
    const [rows, columns] = encoding.shape;
    const weight = { rows, columns, values: encoding.dense() };
    matrices.set(name, await rtn.compress(weight, { tokens: 0 }, rtn.options.parse(choice)));
  }
  return { ...model, matrices };
}

const inBlocks = (choice: Record<string, unknown>) => (name: string) =>
  name.includes('layers') ? choice : undefined;

/** Writes, opens again, compares; gives config.json. */
async function rewritten(model: Model, layout: CheckpointLayout) {
  const folder = mkdtempSync(join(root, 'model-'));
  await writeCheckpoint(model, folder, layout, { floats: 'float16' });
  const again = loadModel(await openCheckpoint(folder));
  for (const [name, encoding] of model.matrices) {
    if (encoding.bits >= 16) continue;
    expect(again.matrices.get(name)!.dense()).toEqual(encoding.dense());
    expect(again.matrices.get(name)!.bits).toBe(encoding.bits);
  }
  const { worst } = await verifyCheckpoint(again, model, ids, 'float16');
  expect(worst).toBeLessThan(0.01);
  return JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'));
}

describe("a folder in GPTQ's format", () => {
  it('is of the first version without zero points, of the second with them', async () => {
    for (const symmetric of [true, false]) {
      const model = await compressed(inBlocks({ symmetric }));
      const { quantization_config: settings } = await rewritten(model, gptqLayout(model));
      expect(settings).toMatchObject({
        quant_method: 'gptq',
        checkpoint_format: symmetric ? 'gptq' : 'gptq_v2',
        bits: 4,
        group_size: 32,
        sym: symmetric,
        desc_act: false,
      });
      expect(settings.dynamic).toBeUndefined();
    }
  });

  it('names the matrices that have other settings or none', async () => {
    const model = await compressed((name) => {
      if (name === down || !name.includes('layers')) return undefined;
      return name.includes('v_proj') ? { bits: 8, group: 64 } : { bits: 3 };
    });
    const { quantization_config: settings } = await rewritten(model, gptqLayout(model));
    expect(settings).toMatchObject({ bits: 3, group_size: 32 });
    const other = { bits: 8, group_size: 64 };
    expect(settings.dynamic).toEqual({
      '-:^model\\.layers\\.1\\.mlp\\.down_proj$': {},
      '+:^model\\.layers\\.0\\.self_attn\\.v_proj$': other,
      '+:^model\\.layers\\.1\\.self_attn\\.v_proj$': other,
    });
  });
});

describe("a folder in AWQ's format", () => {
  it('has one group size, and names the matrices that are not in it', async () => {
    const model = await compressed((name) => {
      if (name === down || !name.includes('layers')) return undefined;
      return { group: name.includes('mlp') ? 32 : 64 };
    });
    const { quantization_config: settings } = await rewritten(model, awqLayout(model));
    expect(settings).toMatchObject({
      quant_method: 'awq',
      version: 'gemm',
      bits: 4,
      group_size: 32,
      modules_to_not_convert: [down],
    });
  });
});

describe("a folder in MLX's format", () => {
  it('holds the embedding too, and names the matrices that have other settings', async () => {
    const model = await compressed((name) =>
      name.includes('layers') ? { scales: 'short' } : { bits: 8, group: 64, symmetric: true },
    );
    const { quantization } = await rewritten(model, mlxLayout(model));
    expect(quantization).toEqual({
      group_size: 32,
      bits: 4,
      mode: 'affine',
      'model.embed_tokens': { group_size: 64, bits: 8 },
    });
  });

  it("is not written where mlx-lm turns matrices by their names, which is GPT-2's", async () => {
    const model = await openGolden('gpt2');
    expect(() => mlxLayout(model)).toThrow('gpt2');
  });
});

describe('settings of a checkpoint that is to be read', () => {
  const written = (async () => {
    const folder = mkdtempSync(join(root, 'settings-'));
    const model = await compressed(inBlocks({ symmetric: true }));
    await writeCheckpoint(model, folder, { ...gptqLayout(model), settings: {} }, { floats: 'float16' });
    return openCheckpoint(folder);
  })();
  const open = async (config: Record<string, unknown>) => {
    const checkpoint = await written;
    return loadModel({ ...checkpoint, json: { ...checkpoint.json, ...config } });
  };
  const gptq = (settings: Record<string, unknown>) => ({
    quantization_config: { quant_method: 'gptq', bits: 4, group_size: 32, ...settings },
  });
  const awq = (settings: Record<string, unknown>) => ({
    quantization_config: { quant_method: 'awq', bits: 4, group_size: 32, ...settings },
  });

  it.each([
    [gptq({ bits: 5 }), 'quantization_config.bits'],
    [gptq({ group_size: 0 }), 'quantization_config.group_size'],
    [gptq({ checkpoint_format: 'marlin' }), 'checkpoint_format'],
    [gptq({ dynamic: { '(': {} } }), 'dynamic'],
    [gptq({ group_size: 64 }), 'model.layers.0.mlp.down_proj'],
    [awq({ version: 'gemv' }), 'quantization_config.version'],
    [awq({ bits: 8 }), 'quantization_config.bits'],
    [{ quantization: { group_size: 32, bits: 9 } }, 'quantization.bits'],
    [{ quantization: { group_size: 32, bits: 4, mode: 'mxfp4' } }, 'quantization.mode'],
  ])('are refused by name: %o', async (config, where) => {
    await expect(open(config)).rejects.toThrow(where);
  });
});
