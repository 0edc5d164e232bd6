/**
 * Weights and tokens as people's checkpoints have them, odd in one way each, through every format. The same on
 * ../shared/cases, where that is.
 */

import { existsSync } from 'node:fs';
import { afterAll, describe, expect, it } from 'vitest';
import type { Stored } from '../src/base/tensor.ts';
import { stored } from '../src/base/tensor.ts';
import { openModel } from '../src/open.ts';
import { answer } from './command-line.ts';
import { formats, inLlama, scratch, sources, withoutLlama, withoutTransformers, written } from './cases.ts';
import { hasLlama } from './engines/llama/llama.ts';
import { maxDifference } from './engines/models.ts';
import { transformers } from './engines/transformers.ts';
import { noise, sizes, writeByteLlama } from './models/byte-llama.ts';

afterAll(scratch.remove);

describe('a head of its own beside "tie_word_embeddings": true', () => {
  const config = { tie_word_embeddings: true };

  it('counts, is told, and is written as what it is', async () => {
    const oddity = { config, tensors: { 'lm_head.weight': noise('own head', sizes.rows, sizes.hidden) } };
    for (const source of await sources('tied-with-own-head', oddity)) {
      const lines: string[] = [];
      const opened = await openModel(source, { warn: (line) => lines.push(line) });
      expect(lines).toEqual([expect.stringMatching(/the head is the embedding.*lm_head\.weight.*counts/)]);
      expect(opened.model!.config.tiedHead).toBe(false);
      expect(opened.model!.matrices.has('lm_head')).toBe(true);
      for (const format of formats) {
        const { out, notes, json } = await written(source, format);
        expect(notes).toEqual(expect.arrayContaining(lines));
        if (format !== 'gguf') expect(json('config.json').tie_word_embeddings).toBe(false);
        if (format === 'onnx') continue;
        const again = await openModel(out);
        const head = again.model!.matrices.get('lm_head')!.dense();
        expect(maxDifference(head, opened.model!.matrices.get('lm_head')!.dense())).toBeLessThan(1e-3);
      }
    }
  });

  it('is the embedding where its bytes are', async () => {
    const copy = { 'lm_head.weight': noise('model.embed_tokens', sizes.rows, sizes.hidden) };
    const source = await writeByteLlama(scratch.path('copied-head'), { config, tensors: copy });
    const lines: string[] = [];
    const { model } = await openModel(source, { warn: (line) => lines.push(line) });
    expect(lines).toEqual([]);
    expect(model!.config.tiedHead).toBe(true);
    expect(model!.matrices.has('lm_head')).toBe(false);
  });
});

describe('tensors beyond the architecture', () => {
  const opened = async (name: string, tensors: Record<string, Stored>, config = {}) => {
    const source = await writeByteLlama(scratch.path(name), { tensors, config });
    const lines: string[] = [];
    await openModel(source, { warn: (line) => lines.push(line) });
    return lines;
  };
  const attention = 'model.layers.0.self_attn';

  it.each([
    ['a bias', `${attention}.q_proj.bias`, 'attention_bias'],
    ['a norm of heads', `${attention}.q_norm.weight`, 'model_type'],
    ['an adapter', `${attention}.q_proj.lora_A.weight`, 'model_type'],
    ['a bias of the head', 'lm_head.bias', 'attention_bias'],
    ['a norm of the embedding', 'model.embed_norm.weight', 'model_type'],
  ])('are refused by name where answers hang on them: %s', async (what, name, fix) => {
    const refused = opened(`beyond ${what}`, { [name]: noise(name, 32) });
    await expect(refused).rejects.toThrow(new RegExp(`answers would be others(.|\n)*${name}(.|\n)*${fix}`));
  });

  it.each([
    ['frequencies of old checkpoints', `${attention}.rotary_emb.inv_freq`, noise('f', 8)],
    ['biases of zeros', `${attention}.q_proj.bias`, stored('float32', [32], new Float32Array(32))],
  ])('are nothing to speak of: %s', async (what, name, tensor) => {
    expect(await opened(what, { [name]: tensor })).toEqual([]);
  });

  it('are told where they are layers that config.json does not count, or parts of something else', async () => {
    const layer = 'model.layers.1.mlp.up_proj.weight';
    expect(await opened('more layers', { [layer]: noise(layer, 64, 32) })).toEqual([
      expect.stringMatching(/config\.json says 1 layers, and the file has more.*layers\.1\.mlp/),
    ]);
    expect(await opened('a tower', { 'tower.0.weight': noise('t', 4, 4) })).toEqual([
      expect.stringMatching(/nothing uses tower\.0\.weight/),
    ]);
  });

  it('are not expected by sizes of single layers, which nobody honours: told, and not written', async () => {
    const config = { per_layer_config: { '0': { skip: ['mlp'] } } };
    expect(await opened('single layers', {}, config)).toEqual([expect.stringMatching(/"per_layer_config"/)]);
    const { json } = await written(scratch.path('single layers'), 'mlx');
    expect(json('config.json')).not.toHaveProperty('per_layer_config');
  });
});

describe('a body with another head', () => {
  it('is refused by the name of its class, by every command, and listed', async () => {
    const config = { architectures: ['LlamaForSequenceClassification'], tie_word_embeddings: true };
    for (const source of await sources('classifier', { config })) {
      for (const command of [
        ['compress', source, '--method', 'rtn', '--out', scratch.path('never')],
        ['evaluate', source, '--data', 'models/pebble/stories.jsonl'],
        ['generate', source, 'a'],
      ]) {
        const { code, stderr } = await answer(command);
        expect(code, stderr).toBe(3);
        expect(stderr).toMatch(
          /LlamaForSequenceClassification is no causal(.|\n)*LlamaForCausalLM(.|\n)*to do/,
        );
      }
      expect(existsSync(scratch.path('never'))).toBe(false);
      const { code, stdout } = await answer(['inspect', source, '--tensors']);
      expect([code, stdout]).toEqual([0, expect.stringMatching(/LlamaForSequence(.|\n)*embed_tokens/)]);
      expect(stdout).toMatch(/compress +refuses it: LlamaForSequence/);
    }
  });

  it('or another body is refused with its name and what to do, and listed as it is stored', async () => {
    const config = { model_type: 'bert', architectures: ['BertModel'] };
    const source = await writeByteLlama(scratch.path('encoder'), { config });
    const { code, stderr } = await answer(['generate', source, 'a']);
    expect(code).toBe(3);
    expect(stderr).toMatch(/encoder, config\.json(.|\n)*found: "bert"(.|\n)*to do: BertModel is no causal/);
    const { stdout } = await answer(['inspect', source, '--json']);
    const listed = JSON.parse(stdout);
    expect(listed).toMatchObject({ model: 'encoder', architecture: 'BertModel', parameters: 26720 });
    expect(listed.refused.what).toMatch(/not known/);
    expect(listed.tensors).toHaveLength(12);
  });

  it('may be none at all, where the embedding is one', async () => {
    const bare = { architectures: ['LlamaModel'], tie_word_embeddings: true };
    const source = await writeByteLlama(scratch.path('bare'), { config: bare });
    const lines: string[] = [];
    await openModel(source, { warn: (line) => lines.push(line) });
    expect(lines).toEqual([expect.stringMatching(/a bare LlamaModel/)]);
    expect((await written(source, 'mlx')).json('config.json').architectures).toEqual(['LlamaForCausalLM']);
  });
});

describe('tokens that were added, and have no row', () => {
  const oddity = { config: { vocab_size: 258 }, added: ['[PAD]'], tokenizerConfig: { pad_token: '[PAD]' } };
  const name = 'tokens-beyond-rows';

  it('are told; text that holds them is refused', async () => {
    for (const source of await sources(name, oddity)) {
      const { code, stderr } = await answer(['generate', source, 'a [PAD]', '--max-tokens', '1']);
      expect(code).toBe(3);
      expect(stderr).toMatch(/holds \[PAD\], a token that the model has no row for/);
      for (const format of formats) {
        const { out, notes } = await written(source, format);
        expect(notes).toEqual([expect.stringMatching(/no rows for \(\[PAD\]\)/)]);
        const tokenizer = (await openModel(out)).tokenizer;
        // A GGUF file has no such token: there it is plain text.
        if (format === 'gguf') expect(tokenizer.vocabularySize).toBe(258);
        else expect(() => tokenizer.encode('a [PAD]')).toThrow(/no row for/);
      }
    }
  });

  it.skipIf(!hasLlama)(`are not in GGUF, which llama.cpp loads${withoutLlama}`, async () => {
    for (const source of await sources(name, oddity))
      expect(inLlama(await written(source, 'gguf'), 258).ends).toEqual([257]);
  });

  it.skipIf(!transformers)(`leave a folder that transformers.js loads${withoutTransformers}`, async () => {
    for (const source of await sources(name, oddity)) {
      const { out } = await written(source, 'onnx');
      const pipe = await transformers!.pipeline('text-generation', out);
      const [{ generated_text: text }] = await pipe('abc', { max_new_tokens: 2, do_sample: false });
      expect(text.startsWith('abc')).toBe(true);
    }
  });
});
