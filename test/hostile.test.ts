/** Files of ../shared/cases/hostile, each for its kind: on these our own code once threw something else, or lost its memory. */

import { copyFileSync, cpSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LapidaryError } from '../src/base/errors.ts';
import { readDocuments } from '../src/calibrate/data.ts';
import { openJournal } from '../src/io/journal.ts';
import { openSafetensors } from '../src/io/safetensors/read.ts';
import { openWeights } from '../src/open.ts';
import { parseReport } from '../src/report/schema.ts';
import { readRecipe } from '../src/recipe/recipe.ts';
import { loadTokenizer } from '../src/tokenizer/tokenizer.ts';
import { scratchFolder } from './command-line.ts';
import { writeByteLlama } from './models/byte-llama.ts';

const scratch = scratchFolder();
afterAll(() => scratch.remove());
const model = scratch.path('model');
beforeAll(async () => {
  await writeByteLlama(model);
});

const shared = resolve('../shared/cases/hostile');
const itShared = it.skipIf(!existsSync(shared));
const file = (name: string) => join(shared, name);

/** The error's text; anything else than a LapidaryError fails. */
async function refused(read: () => unknown): Promise<string> {
  try {
    await read();
  } catch (error) {
    expect(error).toBeInstanceOf(LapidaryError);
    expect((error as Error).message.length).toBeLessThan(1500);
    return (error as Error).message;
  }
  throw new Error('it was read');
}

const nested = (depth: number) => '['.repeat(depth) + ']'.repeat(depth);
/** The model beside other settings. */
function settings(name: string, change: (json: Record<string, unknown>) => string): string {
  const folder = scratch.path(name);
  cpSync(model, folder, { recursive: true });
  const json = JSON.parse(readFileSync(join(model, 'config.json'), 'utf8'));
  writeFileSync(join(folder, 'config.json'), change(json));
  return folder;
}

describe('sizes that only config.json claims', () => {
  it.each([
    ['num_hidden_layers', 2e9, '"num_hidden_layers"'],
    ['num_hidden_layers', 2, 'model.layers.1'],
    ['vocab_size', 2 ** 31 - 1, 'model.embed_tokens'],
    ['hidden_size', 2 ** 31 - 4, 'model.embed_tokens'],
    ['intermediate_size', 2 ** 31 - 1, 'mlp'],
    ['num_attention_heads', 2 ** 31 - 2, '"head_dim"'],
    ['num_key_value_heads', 2 ** 31 - 1, '"num_key_value_heads"'],
    ['head_dim', 2 ** 31 - 2, 'self_attn'],
  ])('%s of %i is refused before anything is made of it', async (key, value, named) => {
    const folder = settings(`${key}-${value}`, (json) => JSON.stringify({ ...json, [key]: value }));
    const before = process.memoryUsage().rss;
    expect(await refused(() => openWeights(folder))).toContain(named);
    expect(process.memoryUsage().rss - before).toBeLessThan(2 ** 29);
  });

  it('positions may be as many as there are', async () => {
    const folder = settings('positions', (json) =>
      JSON.stringify({ ...json, max_position_embeddings: 2 ** 31 - 1 }),
    );
    expect((await openWeights(folder)).context).toBe(2 ** 31 - 1);
  });

  itShared.each(['config-layers.json', 'config-deep.json'])('%s', async (name) => {
    const folder = settings(name, () => readFileSync(file(name), 'utf8'));
    expect(await refused(() => openWeights(folder))).toContain('config.json');
  });
});

describe('values nested thousands deep', () => {
  it('are refused wherever JSON is read', async () => {
    const folder = settings('deep', (json) => JSON.stringify(json).replace('"llama"', nested(5000)));
    expect(await refused(() => openWeights(folder))).toContain('nested too deeply');
    const place = scratch.path('deep.jsonl');
    writeFileSync(place, `{"text": ${nested(5000)}}`);
    expect(await refused(() => readDocuments(place))).toContain('line 1');
    expect(await refused(() => parseReport(nested(5000), 'report.json'))).toContain('report.json');
    const files = new Map([['tokenizer.json', () => Buffer.from(`{"model": ${nested(5000)}}`)]]);
    expect(await refused(() => loadTokenizer(files))).toContain('tokenizer.json');
    const recipe = scratch.path('deep.yaml');
    writeFileSync(recipe, `steps: ${nested(5000)}`);
    expect(await refused(() => readRecipe(recipe))).toContain('deep.yaml');
  });

  itShared('safetensors-deep.safetensors', async () => {
    const path = file('safetensors-deep.safetensors');
    expect(await refused(() => openSafetensors(path))).toContain(path);
  });

  itShared('a journal unit that is damaged so is a missing one', async () => {
    const journal = openJournal(scratch.path('out'), { seed: 1 }, { warn: () => {} });
    await journal.write('block-0', { tensors: new Map(), data: 1 });
    copyFileSync(file('safetensors-deep.safetensors'), scratch.path('.out.journal/block-0.safetensors'));
    expect(journal.read('block-0')).toBeUndefined();
  });
});

describe('what libraries throw', () => {
  it('is told with the file, for a recipe within itself', async () => {
    const path = scratch.path('circular.yaml');
    writeFileSync(path, 'steps: &a [*a]\n');
    expect(await refused(() => readRecipe(path))).toContain('circular.yaml');
  });

  itShared('recipe-circular.yaml, parquet-schema.parquet, tokenizer-processor.json', async () => {
    const recipe = file('recipe-circular.yaml');
    expect(await refused(() => readRecipe(recipe))).toContain(recipe);
    const parquet = file('parquet-schema.parquet');
    expect(await refused(() => readDocuments(parquet))).toContain(parquet);
    const bytes = readFileSync(file('tokenizer-processor.json'));
    const tokenizer = loadTokenizer(new Map([['tokenizer.json', () => bytes]]));
    expect(await refused(() => tokenizer.encode('Hello', { special: true }))).toContain('tokenizer.json');
  });
});
