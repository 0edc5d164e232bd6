import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { LapidaryError } from '../base/errors.ts';
import { ggmlType } from '../base/ggml.ts';
import { random } from '../base/random.ts';
import { stored } from '../base/tensor.ts';
import { quantizeTo } from '../encodings/blocks/index.ts';
import type { GgufFile } from '../io/gguf/read.ts';
import { openGguf } from '../io/gguf/read.ts';
import type { GgufValue } from '../io/gguf/types.ts';
import { writeGguf } from '../io/gguf/write.ts';
import { originFromGguf } from '../io/origin.ts';
import { tokenizerFiles } from '../tokenizer/gguf.ts';
import { loadTokenizer } from '../tokenizer/tokenizer.ts';
import { tinyLlama } from '../../test/models/tiny.ts';
import { floatTensors, modelFromGguf } from './gguf.ts';
import { llama3Factors, ropeScaling } from './gguf-rope.ts';
import { inHalves, inPairs } from './gguf-rows.ts';
import type { GgufOptions } from './gguf-write.ts';
import { ggufOf } from './gguf-write.ts';
import { vocabularyOf } from './gguf-vocabulary.ts';

const root = mkdtempSync(join(tmpdir(), 'lapidary-gguf-model-'));
afterAll(() => rmSync(root, { recursive: true }));

const definition = {
  added_tokens: [],
  normalizer: null,
  pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, use_regex: true },
  post_processor: null,
  decoder: { type: 'ByteLevel' },
  model: { type: 'BPE', vocab: Object.fromEntries([...'abcdefghij'].map((c, id) => [c, id])), merges: [] },
};
const files = new Map([['tokenizer.json', () => Buffer.from(JSON.stringify(definition))]]);

async function written(
  name: string,
  model = tinyLlama({ tied: false }),
  { more = [], ...options }: Partial<GgufOptions> & { more?: [string, () => Uint8Array][] } = {},
): Promise<GgufFile> {
  const path = join(root, `${name}.gguf`);
  const whole = { ...model, files: new Map([...files, ...more]) };
  const { metadata, tensors } = ggufOf(whole, { name, floats: 'F32', ...options });
  await writeGguf(path, metadata, tensors);
  return openGguf(path);
}

const withKeys = (file: GgufFile, keys: [string, GgufValue | undefined][]): GgufFile => {
  const metadata = new Map(file.metadata);
  for (const [key, value] of keys) {
    if (value) metadata.set(key, value);
    else metadata.delete(key);
  }
  return { ...file, metadata };
};

describe('what a GGUF says beside its model', () => {
  const text = (value: string) => ({ type: 'string', value });

  it('is whose it is and under which terms, in the keys that gguf-py writes', async () => {
    const origin = {
      license: 'other',
      licenseName: 'my-terms',
      licenseLink: 'https://example.org/terms',
      baseModel: 'some-lab/smol-lm2-135m-v0.2-GGUF',
    };
    const { metadata } = await written('origin', undefined, { origin });
    const general = [...metadata].filter(([key]) => /^general\.(license|base_model)/.test(key));
    // Names as gguf-py 0.19 makes them of such an id.
    expect(Object.fromEntries(general)).toEqual({
      'general.license': text('other'),
      'general.license.name': text('my-terms'),
      'general.license.link': text('https://example.org/terms'),
      'general.base_model.count': { type: 'uint32', value: 1 },
      'general.base_model.0.name': text('Smol Lm2 135m v0.2 GGUF'),
      'general.base_model.0.organization': text('Some Lab'),
      'general.base_model.0.repo_url': text('https://huggingface.co/some-lab/smol-lm2-135m-v0.2-GGUF'),
    });
    expect(originFromGguf(metadata)).toMatchObject(origin);
  });

  it('is nothing where nothing is known', async () => {
    const { metadata } = await written('nobody');
    expect([...metadata.keys()].join()).not.toMatch(/license|base_model|chat_template/);
  });

  it('is every chat template by its name, from files or a list, and back', async () => {
    const bytes = (content: string) => () => Buffer.from(content);
    const list = [
      { name: 'default', template: 'd' },
      { name: 'tool_use', template: 't' },
    ];
    const sources: Record<string, [string, () => Uint8Array][]> = {
      list: [['tokenizer_config.json', bytes(JSON.stringify({ chat_template: list }))]],
      files: [
        ['chat_template.jinja', bytes('d')],
        ['additional_chat_templates/tool_use.jinja', bytes('t')],
      ],
    };
    for (const [name, more] of Object.entries(sources)) {
      const file = await written(name, undefined, { more });
      expect(file.metadata.get('tokenizer.chat_template')).toEqual(text('d'));
      expect(file.metadata.get('tokenizer.chat_template.tool_use')).toEqual(text('t'));
      expect(file.metadata.get('tokenizer.chat_templates')).toMatchObject({ values: ['tool_use'] });
      const again = modelFromGguf(file, name).files.get('tokenizer_config.json')!();
      expect(JSON.parse(Buffer.from(again).toString()).chat_template).toEqual(list);
    }
  });
});

describe('a model from a GGUF', () => {
  it.each([true, false])(
    'has the values and settings of the model that was written (tied head: %s)',
    async (tied) => {
      const model = tinyLlama({ tied });
      const again = modelFromGguf(await written(`tied-${tied}`, model), 'x');
      expect(again.config).toMatchObject({
        modelType: 'llama',
        hidden: 8,
        vocabulary: 10,
        context: 16,
        tiedHead: tied,
        normEpsilon: model.config.normEpsilon,
        layers: model.config.layers,
      });
      for (const [name, encoding] of model.matrices)
        expect(again.matrices.get(name)!.dense()).toEqual(encoding.dense());
      for (const [name, vector] of model.vectors)
        expect(again.vectors.get(name)!.bytes()).toEqual(vector.bytes());
      expect([...again.files.keys()]).toContain('tokenizer.json');
      expect(Array.from(loadTokenizer(again.files).encode('cab'))).toEqual([2, 0, 1]);
    },
  );

  it('writes query rows in the order of llama.cpp: source h*size + s*size/2 + j to h*size + 2j + s', async () => {
    const model = tinyLlama({ tied: true });
    const file = await written('order', model);
    const source = model.matrices.get('model.layers.0.self_attn.q_proj')!.dense();
    const target = new Float32Array(file.tensors.get('blk.0.attn_q.weight')!.bytes().buffer);
    const row = (values: Float32Array, index: number) =>
      Array.from(values.subarray(8 * index, 8 * index + 8));
    // Two heads of size 4: halves (0 1 | 2 3) as pairs (0 2)(1 3).
    expect([0, 1, 2, 3, 4, 5, 6, 7].map((i) => row(target, i))).toEqual(
      [0, 2, 1, 3, 4, 6, 5, 7].map((i) => row(source, i)),
    );
  });

  it('keeps matrices in their blocks, and says that they lose twice', async () => {
    const model = tinyLlama({ tied: false });
    const name = 'model.layers.0.self_attn.q_proj';
    const config = { ...model.config.json, hidden_size: 32, intermediate_size: 32, num_attention_heads: 2 };
    const values = Float32Array.from({ length: 32 * 32 }, (_, i) => Math.sin(i));
    const encoding = await quantizeTo({ name: 'Q4_0' }, { rows: 32, columns: 32, values });
    const wide = model.architecture.configure({ ...config, head_dim: 16, num_key_value_heads: 2 });
    const matrices = new Map(
      [...model.matrices].map(([key, old]) => [key, old.shape[0] === 10 ? undefined : encoding]),
    );
    const embedding = await quantizeTo(
      { name: 'Q8_0' },
      { rows: 10, columns: 32, values: values.slice(0, 320) },
    );
    const whole = new Map([...matrices].map(([key, old]) => [key, old ?? embedding]));
    const vectors = new Map(
      [...model.vectors].map(([key]) => [key, stored('float32', [32], new Float32Array(32).fill(1))]),
    );
    const file = await written('blocks', { ...model, config: wide, matrices: whole, vectors });
    const again = modelFromGguf(file, 'blocks.gguf');
    expect(again.matrices.get(name)!.label).toBe('Q4_0');
    expect(again.matrices.get(name)!.dense()).toEqual(encoding.dense());
    const floats = floatTensors(again).get(`${name}.weight`)!;
    expect(floats.bytes().byteLength).toBe(floats.byteLength);
  });

  it('says what it does not take', async () => {
    const file = await written('refused');
    const change = (key: string, value: GgufValue | undefined) => () =>
      modelFromGguf(withKeys(file, [[key, value]]), 'x');
    expect(change('general.architecture', { type: 'string', value: 'mamba' })).toThrow(
      /not known(.|\n)*mamba/,
    );
    expect(change('general.architecture', undefined)).toThrow(LapidaryError);
    expect(change('llama.block_count', undefined)).toThrow(/no key "llama.block_count"/);
    expect(change('llama.block_count', { type: 'uint32', value: 3 })).toThrow(/model.layers.2/);
    expect(change('llama.block_count', { type: 'uint32', value: 2 ** 31 })).toThrow(
      /no more than 21 tensors/,
    );
    expect(change('llama.attention.head_count', { type: 'uint32', value: 0 })).toThrow(/head_count/);
    expect(change('llama.attention.value_length', { type: 'uint32', value: 2 })).toThrow(/value_length/);
    expect(change('llama.rope.dimension_count', { type: 'uint32', value: 2 })).toThrow(/dimension_count/);
    expect(change('llama.rope.scaling.type', { type: 'string', value: 'yarn' })).toThrow(/yarn/);
    expect(change('split.count', { type: 'uint16', value: 2 })).toThrow(/one of 2 parts/);
    const tensors = new Map(file.tensors);
    tensors.set('blk.0.ffn_up.weight', { ...tensors.get('blk.0.ffn_up.weight')!, type: ggmlType('IQ1_S') });
    expect(() => modelFromGguf({ ...file, tensors }, 'x')).toThrow(/"blk.0.ffn_up.weight" is IQ1_S/);
    tensors.delete('token_embd.weight');
    expect(() => modelFromGguf({ ...file, tensors }, 'x')).toThrow(/token_embd/);
  });
});

describe('a model file changed at random', () => {
  it('is a model or is refused in each of 400 cases', async () => {
    const source = await written('whole');
    const headerEnd = Math.min(...[...source.tensors.values()].map(({ offset }) => offset));
    const whole = readFileSync(source.path);
    const path = join(root, 'changed.gguf');
    const numbers = random(6);
    const outcomes = { taken: 0, refused: 0 };
    for (let i = 0; i < 400; i++) {
      const bytes = Buffer.from(whole);
      for (let left = 1 + numbers.integer(3); left > 0; left--)
        bytes[numbers.integer(headerEnd)] = numbers.integer(256);
      writeFileSync(path, bytes);
      try {
        const { files } = modelFromGguf(openGguf(path), 'x');
        loadTokenizer(files).encode('cab');
        outcomes.taken++;
      } catch (error) {
        if (!(error instanceof LapidaryError)) throw new Error(`case ${i}`, { cause: error });
        outcomes.refused++;
      }
    }
    expect(outcomes.taken).toBeGreaterThan(10);
    expect(outcomes.refused).toBeGreaterThan(100);
  });
});

describe('rows of query and key', () => {
  it('come back to their order', () => {
    const bytes = Uint8Array.from({ length: 24 * 3 }, (_, i) => i);
    expect(inHalves(inPairs(bytes, 24, 3), 24, 3)).toEqual(bytes);
    expect(() => inPairs(bytes, 24, 5)).toThrow(/do not divide into heads/);
  });
});

describe('rotary scaling of Llama 3 from its divisors', () => {
  it.each([
    {
      factor: 8,
      lowFrequencyFactor: 1,
      highFrequencyFactor: 4,
      originalContext: 8192,
      theta: 500000,
      size: 128,
    },
    {
      factor: 32,
      lowFrequencyFactor: 1,
      highFrequencyFactor: 4,
      originalContext: 8192,
      theta: 500000,
      size: 64,
    },
    {
      factor: 4,
      lowFrequencyFactor: 2,
      highFrequencyFactor: 3,
      originalContext: 2048,
      theta: 10000,
      size: 128,
    },
    { factor: 2, lowFrequencyFactor: 1, highFrequencyFactor: 2, originalContext: 32, theta: 10000, size: 8 },
    {
      factor: 16,
      lowFrequencyFactor: 1,
      highFrequencyFactor: 1.5,
      originalContext: 300,
      theta: 1000,
      size: 8,
    },
  ])(
    'factor $factor, bounds $lowFrequencyFactor and $highFrequencyFactor, $originalContext',
    ({ theta, size, ...scaling }) => {
      const factors = llama3Factors(scaling, theta, size);
      const found = ropeScaling(new Map(), 'llama', factors, theta, size)!;
      const again = {
        factor: found.factor as number,
        lowFrequencyFactor: found.low_freq_factor as number,
        highFrequencyFactor: found.high_freq_factor as number,
        originalContext: found.original_max_position_embeddings as number,
      };
      llama3Factors(again, theta, size).forEach((value, i) => expect(value / factors[i]!).toBeCloseTo(1, 4));
    },
  );

  it('are refused where they follow no such rule', () => {
    const factors = Float32Array.of(1, 3, 2, 7);
    expect(() => ropeScaling(new Map(), 'llama', factors, 10000, 8)).toThrow(/not scaled as in Llama 3/);
  });
});

const folder = '../shared/models/ggml-vocab';
const separator = '\n__ggml_vocab_test__\n';
const vocabularies = ['gpt-2', 'llama-spm', 'mpt', 'starcoder'].map((name) => {
  const path = `${folder}/ggml-vocab-${name}.gguf`;
  let problem = existsSync(path) ? '' : 'not in ../shared';
  try {
    if (problem === '') openGguf(path);
  } catch {
    problem = 'the file in ../shared is damaged: its bytes above 127 are U+FFFD';
  }
  return { name, path, problem };
});

describe("llama.cpp's vocabularies", () => {
  for (const { name, path, problem } of vocabularies) {
    it.skipIf(problem !== '')(
      `${name}: all inputs give its ids${problem && ` (skipped: ${problem})`}`,
      () => {
        const tokenizer = loadTokenizer(modelFiles(path));
        const texts = readFileSync(`${path}.inp`, 'utf8').split(separator);
        const ids = readFileSync(`${path}.out`, 'utf8').split('\n');
        for (const [i, text] of texts.entries()) {
          expect(Array.from(tokenizer.encode(text)).join(' '), JSON.stringify(text)).toBe(
            (ids[i] ?? '').trim(),
          );
          expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
        }
      },
    );
  }

  function modelFiles(path: string) {
    return tokenizerFiles(vocabularyOf(openGguf(path).metadata)!);
  }
});
