/**
 * Checkpoints as people have them, odd in one way each, through every format that is written: what engines answer counts,
 * or the rule that they read by. The same on ../shared/cases, where that is.
 */

import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { Stored } from '../src/base/tensor.ts';
import { stored } from '../src/base/tensor.ts';
import { compress, parseRecipe } from '../src/index.ts';
import { readRope } from '../src/models/rope.ts';
import { openModel } from '../src/open.ts';
import { answer, scratchFolder } from './command-line.ts';
import { hasLlama, llamaFolder } from './engines/llama/llama.ts';
import { maxDifference } from './engines/models.ts';
import { transformers } from './engines/transformers.ts';
import type { Oddity } from './models/byte-llama.ts';
import { noise, sizes, writeByteLlama } from './models/byte-llama.ts';

const shared = '../shared/cases';
const scratch = scratchFolder();
afterAll(scratch.remove);
const withoutLlama = hasLlama ? '' : ' (skipped: run node test/engines/install.js)';
const withoutTransformers = transformers ? '' : ' (skipped: run node test/engines/install.js)';

const formats = ['onnx', 'gguf', 'compressed-tensors', 'gptq', 'awq', 'mlx'] as const;
type FormatName = (typeof formats)[number];
const folders: readonly FormatName[] = formats.filter((format) => format !== 'gguf');

/** A case made here, and the shared one of its name. */
async function sources(name: string, oddity: Oddity): Promise<string[]> {
  const made = await writeByteLlama(scratch.path(name), oddity);
  return existsSync(join(shared, name)) ? [made, join(shared, name)] : [made];
}

let count = 0;

interface Result {
  readonly out: string;
  readonly notes: readonly string[];
  json(name: string): Record<string, unknown>;
}

async function written(model: string, format: FormatName): Promise<Result> {
  const out = scratch.path(`out-${count++}`);
  // Keys and values of the smallest of these models are narrower than a word of GPTQ.
  const steps = [{ method: 'rtn', bits: 4, group: 32, symmetric: format === 'gptq', targets: ['*.mlp.*'] }];
  const recipe = parseRecipe({ model, steps, export: { format } });
  const notes: string[] = [];
  await compress({ recipe, out, speed: false, session: { threads: 1 }, warn: (line) => notes.push(line) });
  return { out, notes, json: (name) => JSON.parse(readFileSync(join(out, name), 'utf8')) };
}

/** What llama.cpp takes from the GGUF file of a folder. */
function inLlama({ out }: Result, rows = sizes.rows): { ends: number[]; template?: string } {
  const file = readdirSync(out).find((name) => name.endsWith('.gguf'))!;
  const args = [join(llamaFolder, 'vocabulary.js'), join(out, file), `${rows}`];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  expect(status, stderr).toBe(0);
  return JSON.parse(stdout);
}

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
        const { rope } = (await openModel(source)).model!.config;
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
      const { code, stdout, stderr } = await answer(['inspect', source]);
      expect([code, stdout]).toEqual([
        0,
        expect.stringMatching(/LlamaForSequence(.|\n)*embed_tokens\.weight/),
      ]);
      expect(stderr).toMatch(/warning: not a model that Lapidary compresses: .*LlamaForSequence/);
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
