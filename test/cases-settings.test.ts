/**
 * Settings as people's checkpoints have them, odd in one way each, through every format: what engines answer counts, or the
 * rule that they read by. The same on ../shared/cases, where that is.
 */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { readRope } from '../src/models/rope.ts';
import { openModel } from '../src/open.ts';
import { answer } from './command-line.ts';
import {
  folders,
  formats,
  inLlama,
  scratch,
  sources,
  withoutLlama,
  withoutTransformers,
  written,
} from './cases.ts';
import { hasLlama } from './engines/llama/llama.ts';
import { transformers } from './engines/transformers.ts';
import type { Oddity } from './models/byte-llama.ts';
import { writeByteLlama } from './models/byte-llama.ts';

afterAll(scratch.remove);

const talk = [{ role: 'user', content: 'hi' }];
const template =
  "{{ bos_token }}{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}";

describe('a chat template in a file of its own', () => {
  const places: Record<string, Oddity> = {
    'chat-template-file': { files: { 'chat_template.jinja': template } },
    'chat_template.json': { files: { 'chat_template.json': { chat_template: template } } },
    'one of a list': {
      tokenizerConfig: {
        chat_template: [
          { name: 'tool_use', template: 'tools' },
          { name: 'default', template },
        ],
      },
    },
    'a file beside an outdated list': {
      files: { 'chat_template.jinja': template },
      tokenizerConfig: {
        chat_template: [
          { name: 'tool_use', template: 'tools' },
          { name: 'default', template: 'old' },
        ],
      },
    },
    'special tokens of another file': {
      files: { 'chat_template.jinja': template, 'special_tokens_map.json': { bos_token: '<s>' } },
      tokenizerConfig: { bos_token: undefined },
    },
  };

  it.skipIf(!transformers).each(Object.entries(places))(
    `is in the tokenizer_config.json that transformers.js reads: %s${withoutTransformers}`,
    async (name, oddity) => {
      for (const source of await sources(name, oddity)) {
        for (const format of name === 'chat-template-file' ? folders : (['onnx'] as const)) {
          const { out } = await written(source, format);
          const tokenizer = await transformers!.AutoTokenizer.from_pretrained(out);
          const options = { tokenize: false, add_generation_prompt: true };
          expect(tokenizer.apply_chat_template(talk, options), `${source} ${format}`).toBe(
            '<s>user: hi\nassistant:',
          );
        }
      }
    },
  );

  it.skipIf(!hasLlama)(`is in the metadata that llama.cpp reads${withoutLlama}`, async () => {
    for (const source of await sources('chat-template-file', places['chat-template-file']!))
      expect(inLlama(await written(source, 'gguf')).template).toBe(template);
  });
});

describe('rotary settings', () => {
  const spellings: Record<string, Record<string, unknown>> = {
    'rope-parameters-only': { rope_parameters: { rope_theta: 500000, rope_type: 'default' } },
    'old spelling': { rope_theta: 500000 },
    scaled: {
      rope_parameters: {
        rope_theta: 500000,
        rope_type: 'llama3',
        factor: 8,
        low_freq_factor: 1,
        high_freq_factor: 4,
        original_max_position_embeddings: 32,
      },
    },
  };

  it.each(Object.entries(spellings))(
    'are written in the words of all versions, and so is the type of floats: %s',
    async (name, config) => {
      for (const source of await sources(name, { config: { ...config, dtype: 'float32' } })) {
        const { rope } = (await openModel(source)).model!.config.layers[0]!;
        for (const format of folders) {
          const { json } = await written(source, format);
          const { rope_theta, rope_scaling, rope_parameters, dtype, torch_dtype } = json('config.json');
          // As mlx-lm reads them, and transformers 5 where the old ones are not there.
          expect(readRope({ rope_theta, rope_scaling })).toEqual(rope);
          expect(readRope({ rope_parameters })).toEqual(rope);
          expect(rope_theta).toBe(500000);
          // mlx-lm looks for "type" first, versions of transformers for either.
          if (name === 'scaled') expect(rope_scaling).toMatchObject({ rope_type: 'llama3', type: 'llama3' });
          else expect(rope_scaling).toBeNull();
          expect(torch_dtype).toBe(dtype);
        }
      }
    },
  );
});

describe('tokens that end a text', () => {
  const generation = { bos_token_id: 256, eos_token_id: [257, 46], pad_token_id: 0 };
  const name = 'ends-in-generation-config';
  const oddity = { files: { 'generation_config.json': generation } };

  it('are those of generation_config.json in every file', async () => {
    for (const source of await sources(name, oddity)) {
      for (const format of folders) {
        const { json } = await written(source, format);
        expect(json('generation_config.json')).toMatchObject(generation);
        expect(json('config.json')).toMatchObject(generation);
        if (format === 'onnx') expect(json('genai_config.json').model).toMatchObject(generation);
      }
    }
  });

  it('come from config.json where generation_config.json does not name them', async () => {
    const source = await writeByteLlama(scratch.path('silent generation'), {
      config: { eos_token_id: [257, 46] },
      files: { 'generation_config.json': { temperature: 0.6, eos_token_id: null } },
    });
    const { json } = await written(source, 'onnx');
    expect(json('generation_config.json')).toEqual({
      temperature: 0.6,
      bos_token_id: 256,
      eos_token_id: [257, 46],
    });
  });

  it.skipIf(!hasLlama)(`are ends in llama.cpp, up to three; more are told${withoutLlama}`, async () => {
    for (const source of await sources(name, oddity))
      expect(inLlama(await written(source, 'gguf')).ends).toEqual([46, 257]);
    const four = { 'generation_config.json': { eos_token_id: [257, 46, 47, 48] } };
    const result = await written(await writeByteLlama(scratch.path('four ends'), { files: four }), 'gguf');
    expect(inLlama(result).ends).toEqual([46, 47, 257]);
    const report = readFileSync(join(result.out, 'report.json'), 'utf8');
    expect(report).toMatch(/three tokens that end a text.*may not stop at 0/);
    const again = await openModel(result.out);
    expect(again.model!.config.eos).toEqual([257, 46, 47]);
  });

  it('end generation', async () => {
    const source = scratch.path(name);
    await sources(name, oddity);
    const text = ['generate', source, 'a', '--max-tokens', '3', '--json'];
    const free = JSON.parse((await answer(text)).stdout);
    expect(free.ids).toHaveLength(3);
    const files = { 'generation_config.json': { eos_token_id: [257, free.ids[1]] } };
    await writeByteLlama(source, { files });
    for (const model of [source, (await written(source, 'gguf')).out, (await written(source, 'onnx')).out]) {
      const ended = JSON.parse((await answer(['generate', model, ...text.slice(2)])).stdout);
      expect(ended.finish, model).toBe('eos');
    }
  });
});

describe('keys that are null', () => {
  it('are as if they were not there', async () => {
    const nothing = [
      'quantization_config',
      'quantization',
      'per_layer_config',
      'text_config',
      'rope_scaling',
      'rope_parameters',
      'head_dim',
      'eos_token_id',
      'pad_token_id',
      'attention_bias',
    ];
    const config = Object.fromEntries(nothing.map((key) => [key, null]));
    const files = {
      'generation_config.json': { bos_token_id: null, eos_token_id: null, pad_token_id: null },
      'special_tokens_map.json': { unk_token: null, pad_token: null },
    };
    const tokenizerConfig = { chat_template: null, unk_token: null, extra_special_tokens: null };
    for (const source of await sources('quantization-config-null', { config, files, tokenizerConfig })) {
      for (const format of formats) {
        const { json, notes } = await written(source, format);
        expect(notes).toEqual([]);
        if (format === 'gguf') continue;
        // Others take null for a format of its own.
        const { quantization_config: settings = {}, quantization = {} } = json('config.json');
        expect([settings, quantization]).toEqual([expect.any(Object), expect.any(Object)]);
      }
    }
  });
});
