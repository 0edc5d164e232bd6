/** Folders for vLLM and transformers: written by a recipe, opened again, compressed further. */

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { compressedTensorsLayout } from '../src/export/safetensors/compressed-tensors.ts';
import { writeCheckpoint } from '../src/export/safetensors/folder.ts';
import { compress } from '../src/index.ts';
import { checkRecipe } from '../src/recipe/recipe.ts';
import { openCheckpoint } from '../src/io/checkpoint.ts';
import { openSafetensors } from '../src/io/safetensors/read.ts';
import { loadModel } from '../src/models/index.ts';
import { logits } from '../src/models/runner.ts';
import { scratchFolder } from './command-line.ts';
import { writeTinyCheckpoint } from './models/checkpoint.ts';

const scratch = scratchFolder();
afterAll(scratch.remove);
const source = scratch.path('tiny');
let first: ReturnType<typeof run>;
beforeAll(async () => {
  await writeTinyCheckpoint(source);
  first = run('first', [four]);
});

type Steps = readonly { readonly method: string; readonly [option: string]: unknown }[];

async function run(name: string, steps: Steps, more: Record<string, unknown> = {}, model = source) {
  const out = scratch.path(name);
  const recipe = checkRecipe({ model, steps, export: { format: 'compressed-tensors', ...more } });
  const report = await compress({ recipe, out });
  const config = JSON.parse(readFileSync(join(out, 'config.json'), 'utf8'));
  return { out, report, config, settings: config.quantization_config };
}

const four = { method: 'rtn', bits: 4, group: 32, symmetric: true };

describe('a folder of compressed-tensors', () => {
  it('says what is quantized and how, and holds the rest in half precision', async () => {
    const { out, report, config, settings } = await first;
    expect(settings).toMatchObject({
      quant_method: 'compressed-tensors',
      format: 'pack-quantized',
      quantization_status: 'compressed',
      ignore: ['lm_head'],
      config_groups: {
        group_0: {
          targets: ['Linear'],
          weights: { num_bits: 4, type: 'int', symmetric: true, strategy: 'group', group_size: 32 },
          input_activations: null,
        },
      },
    });
    expect(config).toMatchObject({ torch_dtype: 'float16', tie_word_embeddings: true, vocab_size: 2048 });
    const { tensors } = openSafetensors(join(out, 'model.safetensors'));
    expect(tensors.get('model.layers.0.mlp.up_proj.weight_packed')).toMatchObject({
      dtype: 'int32',
      shape: [96, 8],
    });
    expect(tensors.get('model.embed_tokens.weight')!.dtype).toBe('float16');
    expect([...tensors.keys()].some((name) => name.startsWith('lm_head'))).toBe(false);
    expect(report.file).toMatchObject({ path: 'model.safetensors', type: 'W4A16' });
    expect(readdirSync(out)).toContain('tokenizer.json');
    expect(readFileSync(join(out, 'README.md'), 'utf8')).toContain('vllm serve');
  });

  it('has a group for every scheme, by the names of its matrices, and tells what vLLM does not take', async () => {
    const eight = { method: 'rtn', bits: 8, group: 32, symmetric: false };
    const steps = [four, { ...eight, targets: ['*.down_proj', '*.v_proj'] }];
    const { report, settings } = await run('mixed', steps);
    const groups = Object.values<{ targets: string[]; weights: { num_bits: number } }>(
      settings.config_groups,
    );
    expect(groups.map(({ targets, weights }) => [weights.num_bits, targets.length])).toEqual([
      [4, 40],
      [8, 16],
    ]);
    expect(report.file.type).toBe('W4A16+W8A16');
    expect(report.notes.join('\n')).toContain('query, key and value at once');
    expect(report.notes.join('\n')).toContain('vLLM loads the zero points');
    expect(report.notes.join('\n')).toContain('on Hopper GPUs alone');
  });

  it('opens as what was written, whole rows of eight bits with rounded inputs too', async () => {
    const { out, report } = await run('rows', [{ method: 'w8a8', rounding: 'nearest' }], { floats: 'F32' });
    expect(report.file.type).toBe('W8A8');
    const model = loadModel(await openCheckpoint(out));
    expect(model.matrices.get('model.layers.0.mlp.up_proj')!.inputBits).toBe(8);
    for (const { worst } of report.checks) expect(worst).toBeLessThan(1e-5);
  });

  it('is a model like any other: it is compressed further, and says no more how it was', async () => {
    const { out } = await first;
    const again = await run('second', [{ ...four, bits: 2 }], {}, out);
    expect(again.settings.config_groups.group_0.weights.num_bits).toBe(2);
    expect(again.report.notes.join('\n')).toContain('already quantized');
    expect(again.report.notes.join('\n')).toContain('vLLM (0.32) loads 2-bit integers, but');
    const model = loadModel(await openCheckpoint(out));
    expect(model.config.json).not.toHaveProperty('quantization_config');
  });

  it('lies in shards with an index where it is large', async () => {
    const model = loadModel(await openCheckpoint(source));
    const out = scratch.path('shards');
    const layout = compressedTensorsLayout(model, 'float32');
    const { path } = await writeCheckpoint(model, out, layout, { floats: 'float32', maxShardBytes: 300_000 });
    expect(path).toBe('model.safetensors.index.json');
    const ids = [[1, 2, 3, 4]];
    const found = await logits(loadModel(await openCheckpoint(out)), ids);
    expect(found.data).toEqual((await logits(model, ids)).data);
  });
});

describe('what cannot be written is told before the work', () => {
  it.each<[string, Steps, RegExp]>([
    ['an embedding', [four, { ...four, targets: ['embeddings'] }], /no compressed embedding or head/],
    ['groups that end within a row', [{ ...four, group: 64 }], /down_proj(.|\n)*whole groups of 64/],
    ["ggml's blocks", [{ method: 'ggml', type: 'Q4_K', fit: 'plain' }], /no place for/],
  ])('%s', async (name, steps, message) => {
    await expect(run(`not ${name}`, steps)).rejects.toThrow(message);
  });

  it('layers that the format does not know: of GPT-2', async () => {
    const model = loadModel(await openCheckpoint('test/models/gpt2'));
    expect(() => compressedTensorsLayout(model, 'float16')).toThrow(/gpt2(.|\n)*Conv1D/);
  });
});

describe("a folder in GPTQ's format", () => {
  it('tells what vLLM does not load', async () => {
    const notes = async (options: Record<string, unknown>) => {
      const steps = [{ method: 'rtn', group: 32, ...options }];
      const { report } = await run(`gptq ${JSON.stringify(options)}`, steps, { format: 'gptq' });
      return report.notes.join('\n');
    };
    expect(await notes({ bits: 4, symmetric: true })).not.toContain('vLLM');
    expect(await notes({ bits: 4, symmetric: false })).toContain(
      'vLLM (0.32) and older engines only what has none',
    );
    expect(await notes({ bits: 3, symmetric: true })).toContain('with 4 and 8 bits alone');
  });
});
