import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { LapidaryError } from '../base/errors.ts';
import { decodeStream, loadTokenizer, withinRows } from './tokenizer.ts';

const shared = '../shared/models';
const stories = `${shared}/stories260K-hf`;
const gpt2 = `${shared}/gpt2-micro-hf`;
const text = '../shared/data/tinystories/tiny.utf8';
const here = existsSync(stories) && existsSync(gpt2) && existsSync(text);

function folder(path: string) {
  return new Map(
    ['tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json', 'generation_config.json']
      .filter((name) => existsSync(`${path}/${name}`))
      .map((name) => [name, () => new Uint8Array(readFileSync(`${path}/${name}`))]),
  );
}

const file = (value: unknown) => () => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value));

/** A word-level tokenizer of five words, and a vocabulary with a hole at 4. */
function tiny(config: object = {}, more: [string, () => Uint8Array][] = []) {
  const vocab = { '<s>': 0, '</s>': 1, hello: 2, world: 3, again: 5 };
  const definition = {
    added_tokens: [0, 1].map((id) => ({
      id,
      content: ['<s>', '</s>'][id],
      special: true,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
    })),
    normalizer: null,
    pre_tokenizer: { type: 'WhitespaceSplit' },
    post_processor: null,
    decoder: null,
    model: { type: 'WordLevel', vocab, unk_token: '<unk>' },
  };
  return new Map([['tokenizer.json', file(definition)], ['tokenizer_config.json', file(config)], ...more]);
}

describe('the beginning of a sequence', () => {
  const named = { bos_token: '<s>', eos_token: '</s>' };

  it('is not doubled where the text begins with it', () => {
    const { encode } = loadTokenizer(tiny(named));
    expect([...encode('hello', { bos: true })]).toEqual([0, 2]);
    expect([...encode('<s> hello', { bos: true })]).toEqual([0, 2]);
    expect([...encode('hello <s>', { bos: true })]).toEqual([0, 2, 0]);
  });

  it('is not doubled where the tokenizer itself puts one before a prompt', () => {
    const files = tiny(named);
    const definition = JSON.parse(new TextDecoder().decode(files.get('tokenizer.json')!()));
    definition.post_processor = {
      type: 'TemplateProcessing',
      single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
      pair: [],
      special_tokens: { '<s>': { id: '<s>', ids: [0], tokens: ['<s>'] } },
    };
    const { encode } = loadTokenizer(files.set('tokenizer.json', file(definition)));
    for (const options of [{ special: true }, { special: true, bos: true }])
      for (const text of ['hello', '<s> hello']) expect([...encode(text, options)]).toEqual([0, 2]);
  });
});

describe.skipIf(!here)('tokenizers of the shared models (skipped where ../shared is not there)', () => {
  it('gives the first 40 TinyStories of stories260K exactly 12,571 predicted tokens', () => {
    const tokenizer = loadTokenizer(folder(stories));
    const documents = readFileSync(text, 'utf8')
      .split('<|endoftext|>')
      .map((story) => story.trim())
      .filter((story) => story !== '')
      .slice(0, 40)
      .map((story) => tokenizer.encode(story, { bos: true }).subarray(0, 512));
    expect(documents.reduce((sum, ids) => sum + ids.length - 1, 0)).toBe(12_571);
    expect(documents.every((ids) => ids[0] === 1)).toBe(true);
  });

  it('decodes what it encoded', () => {
    for (const path of [stories, gpt2]) {
      const tokenizer = loadTokenizer(folder(path));
      for (const sample of [
        'Once upon a time, there was a cat.',
        'naïve café — 世界 🙂 ok',
        'a  b\n\nc',
        ' x .',
      ]) {
        expect(tokenizer.decode(tokenizer.encode(sample))).toBe(sample);
      }
    }
  });

  it('streams the same text that it decodes at once, whole characters only', () => {
    for (const path of [stories, gpt2]) {
      const tokenizer = loadTokenizer(folder(path));
      const sample = 'Once upon a time 世界 🙂 and naïve — done.';
      const ids = tokenizer.encode(sample, { bos: true });
      const stream = decodeStream(tokenizer);
      const pieces = [...ids].map((id) => stream.push(id));
      expect(pieces.join('') + stream.end()).toBe(sample);
      expect(pieces.some((piece) => piece.includes('\uFFFD'))).toBe(false);
      expect(pieces.filter((piece) => piece !== '').length).toBeGreaterThan(8);
    }
  });

  it('keeps the space between a prompt and what is generated after it', () => {
    const tokenizer = loadTokenizer(folder(stories));
    const ids = tokenizer.encode('Once upon a time', { bos: true });
    const stream = decodeStream(tokenizer, ids.subarray(0, 2));
    const rest = [...ids.subarray(2)].map((id) => stream.push(id)).join('') + stream.end();
    expect(tokenizer.decode(ids.subarray(0, 2), { skipSpecial: true }) + rest).toBe('Once upon a time');
  });

  it('ends a stream that was cut inside a character with U+FFFD', () => {
    const tokenizer = loadTokenizer(folder(stories));
    const ids = tokenizer.encode('a 世');
    const stream = decodeStream(tokenizer);
    const pieces = [...ids.subarray(0, -1)].map((id) => stream.push(id)).join('');
    expect(pieces.trimEnd()).toBe('a');
    expect(stream.end()).toContain('\uFFFD');
  });

  it('reads BOS and EOS, and refuses a vocabulary that is too small', () => {
    const tokenizer = loadTokenizer(folder(stories));
    expect([tokenizer.bos, tokenizer.eos, tokenizer.vocabularySize]).toEqual([1, [2], 512]);
    expect(tokenizer.chat).toBeUndefined();
    expect(withinRows(tokenizer, 512)).toBe(tokenizer);
    expect(() => withinRows(tokenizer, 511)).toThrow(/ids below 511.*\n.*ids up to 511/);
    expect(loadTokenizer(folder(gpt2)).bos).toBe(50256);
  });
});

describe('loadTokenizer', () => {
  it('takes ids from every file that states them', () => {
    const generation: [string, () => Uint8Array] = [
      'generation_config.json',
      file({ bos_token_id: 0, eos_token_id: [5, 1] }),
    ];
    expect(loadTokenizer(tiny({ eos_token: { content: '</s>' } }, [generation]))).toMatchObject({
      bos: 0,
      eos: [1, 5],
    });
    expect(loadTokenizer(tiny({ bos_token: null }, [generation])).bos).toBeUndefined();
    const map: [string, () => Uint8Array] = ['special_tokens_map.json', file({ bos_token: '<s>' })];
    expect(loadTokenizer(tiny({}, [map])).bos).toBe(0);
  });

  it('refuses text with a token that was added and has no row, and says which there are', () => {
    const added = { id: 6, content: '[PAD]', special: true };
    const files = tiny({ pad_token: '[PAD]' });
    const definition = JSON.parse(Buffer.from(files.get('tokenizer.json')!()).toString());
    definition.added_tokens.push({ ...definition.added_tokens[0], ...added });
    const lines: string[] = [];
    const all = loadTokenizer(files.set('tokenizer.json', file(definition)));
    expect(all.tokensFrom(5)).toEqual([
      { text: 'again', added: false },
      { text: '[PAD]', added: true },
    ]);
    const tokenizer = withinRows(all, 6, (line) => lines.push(line));
    expect(lines).toEqual([
      expect.stringMatching(/no rows for \(\[PAD\]\): text that holds them is refused/),
    ]);
    expect([...tokenizer.encode('hello again')]).toEqual([2, 5]);
    expect(() => tokenizer.encode('hello [PAD]')).toThrow(/holds \[PAD\], a token .* no row(.|\n)*found: 6/);
    // A token of the vocabulary itself without a row is another model's.
    expect(() => withinRows(all, 5)).toThrow(/does not match the model/);
  });

  it('adds BOS only when asked and only where there is one', () => {
    const tokenizer = loadTokenizer(tiny({ bos_token: '<s>' }));
    expect([...tokenizer.encode('hello world')]).toEqual([2, 3]);
    expect([...tokenizer.encode('hello world', { bos: true })]).toEqual([0, 2, 3]);
    expect([...loadTokenizer(tiny()).encode('hello', { bos: true })]).toEqual([2]);
  });

  it('decodes nothing from no ids and from ids that no token has, and skips special tokens', () => {
    const tokenizer = loadTokenizer(tiny());
    expect(tokenizer.vocabularySize).toBe(6);
    expect(tokenizer.decode([])).toBe('');
    expect(tokenizer.decode([4, 600])).toBe('');
    expect(tokenizer.decode(Int32Array.of(0, 2, 3, 1), { skipSpecial: true })).toBe('hello world');
  });

  it('explains a missing, a damaged and an unknown tokenizer', () => {
    const others = new Map([['vocab.json', file({})]]);
    expect(() => loadTokenizer(others)).toThrow(/no tokenizer.json(.|\n)*vocab.json(.|\n)*AutoTokenizer/);
    for (const content of ['{"model":', '[]', 'null', '{}', '{"model": {"type": "BPE"}}', '\u0000']) {
      expect(() => loadTokenizer(new Map([['tokenizer.json', file(content)]])), content).toThrow(
        LapidaryError,
      );
    }
    expect(() => loadTokenizer(tiny({}, [['tokenizer_config.json', file('{')]]))).toThrow(
      /tokenizer_config.json/,
    );
  });
});

describe('chat templates', () => {
  const template =
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools') }}{% endif %}" +
    '<{{ m.role }}>{{ m.content | tojson }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}';
  const talk = [{ role: 'user', content: 'hi' }];
  const written = '<s><user>"hi"<assistant>';

  it('come from tokenizer_config.json, as text or as a list, or from chat_template.jinja, which wins', () => {
    const config = { bos_token: '<s>', chat_template: template };
    expect(loadTokenizer(tiny(config)).chat?.(talk)).toBe(written);
    const list = [
      { name: 'tool_use', template: 'x' },
      { name: 'default', template },
    ];
    expect(loadTokenizer(tiny({ ...config, chat_template: list })).chat?.(talk)).toBe(written);
    expect(
      loadTokenizer(tiny(config, [['chat_template.jinja', file('{{ messages[0].content }}!')]])).chat?.(talk),
    ).toBe('hi!');
  });

  it('say why when they refuse, and when they are broken', () => {
    const tokenizer = loadTokenizer(tiny({ chat_template: template }));
    expect(() => tokenizer.chat?.([{ role: 'tool', content: '' }])).toThrow(/no tools/);
    expect(() => loadTokenizer(tiny({ chat_template: '{% if %}' })).chat?.(talk)).toThrow(LapidaryError);
  });

  it('are handed what transformers hands them: special tokens, and no tools and documents as none', () => {
    const source =
      '{{ unk_token }}{{ pad_token }}{{ image_token }}{{ tools is none }}{{ documents is none }}{{ documents is defined }}{{ sep_token is defined }}';
    const config = {
      unk_token: '<u>',
      pad_token: { content: '<p>' },
      extra_special_tokens: { image_token: '<i>' },
    };
    const chat = loadTokenizer(tiny({ ...config, sep_token: null, chat_template: source })).chat;
    expect(chat?.(talk)).toBe('<u><p><i>truetruetruefalse');
  });

  it('know the date', () => {
    const chat = loadTokenizer(tiny({ chat_template: "{{ strftime_now('%Y') }}" })).chat;
    expect(chat?.(talk)).toMatch(/^\d{4}$/);
  });
});
