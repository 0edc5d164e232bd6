import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openGolden, quantized } from '../../test/engines/models.ts';
import { exportTransformers } from './transformers.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'lapidary-folder-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const json = (name: string) => JSON.parse(readFileSync(join(folder, name), 'utf8'));

describe('a folder for transformers.js', () => {
  it('holds the model, its configuration, and settings that the checkpoint lacked', async () => {
    const model = await openGolden('llama');
    const files = new Map([['tokenizer.json', () => new TextEncoder().encode('{}')]]);
    const [file] = exportTransformers({ ...model, files }, folder);
    expect(file).toMatchObject({ path: 'onnx/model.onnx', dtype: 'fp32' });
    expect(file.bytes).toBe(statSync(join(folder, 'onnx/model.onnx')).size);
    expect(readdirSync(folder).sort()).toEqual([
      'config.json',
      'genai_config.json',
      'generation_config.json',
      'onnx',
      'tokenizer.json',
      'tokenizer_config.json',
    ]);
    expect(json('config.json')).toMatchObject({
      ...model.config.json,
      'transformers.js_config': { dtype: 'fp32' },
    });
    expect(json('generation_config.json')).toEqual({ bos_token_id: 1, eos_token_id: 2, pad_token_id: 0 });
  });

  it('keeps the files that travelled with the checkpoint as they are', async () => {
    const bytes = new TextEncoder().encode('{ "eos_token_id": 2, "bos_token_id": 1,   "pad_token_id": 0 }');
    const names = ['tokenizer.json', 'tokenizer_config.json', 'generation_config.json', 'LICENSE'];
    const files = new Map(names.map((name) => [name, () => bytes]));
    exportTransformers({ ...(await openGolden('llama')), files }, folder);
    for (const name of names) expect(new Uint8Array(readFileSync(join(folder, name)))).toEqual(bytes);
  });

  it('names a file by the width that most of the weights have', async () => {
    const model = await openGolden('llama');
    const eight = (await quantized(model, 8)).matrices;
    const matrices = new Map((await quantized(model, 2, 16)).matrices);
    matrices.set('lm_head', eight.get('lm_head')!);
    expect(exportTransformers({ ...model, matrices }, folder)[0].dtype).toBe('q2');
  });

  it('counts external data and announces it', async () => {
    const [file] = exportTransformers(await openGolden('llama'), folder, { externalThreshold: 1 });
    const sizes = ['onnx/model.onnx', 'onnx/model.onnx_data'].map(
      (name) => statSync(join(folder, name)).size,
    );
    expect(file.bytes).toBe(sizes[0] + sizes[1]);
    const loading = { dtype: 'fp32', use_external_data_format: { 'model.onnx': 1 } };
    expect(json('config.json')['transformers.js_config']).toEqual(loading);
  });

  it('is the same bytes each time', async () => {
    const model = await quantized(await openGolden('qwen3'), 4);
    const written = () => {
      const [{ path }] = exportTransformers(model, folder);
      return readFileSync(join(folder, path));
    };
    expect(written().equals(written())).toBe(true);
  });
});
