import { readFileSync } from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import { LapidaryError } from '../base/errors.ts';
import { chatTemplate } from './chat.ts';
import { encodeEach, loadTokenizer } from './tokenizer.ts';

const pebble = new URL('../../models/pebble/', import.meta.url);
const files = new Map(
  ['tokenizer.json', 'tokenizer_config.json'].map((name) => [
    name,
    () => readFileSync(new URL(name, pebble)),
  ]),
);
const seconds = 'LAPIDARY_LIBRARY_SECONDS';
const mebibytes = 'LAPIDARY_LIBRARY_MIB';
afterEach(() => {
  delete process.env[seconds];
  delete process.env[mebibytes];
});

/** A long conversation, as honest as a short one. */
const talk = (messages: number) =>
  Array.from({ length: messages }, (_, index) => ({
    role: index % 2 === 0 ? 'user' : 'assistant',
    content: `message ${index}`,
  }));
const template = '{% for m in messages %}<{{ m.role }}>{{ m.content | trim | upper }}{% endfor %}';

describe('the libraries of tokenizers and templates', () => {
  it('are ended after the time they are given, which the error names, and start anew', () => {
    const chat = chatTemplate(template, {})!;
    const answer = '<user>MESSAGE 0<assistant>MESSAGE 1';
    expect(chat(talk(2))).toBe(answer);
    process.env[seconds] = '0.05';
    const tooLong = () => chat(talk(50_000));
    expect(tooLong).toThrow(LapidaryError);
    expect(tooLong).toThrow(
      /chat template: .* took more time.*\n.*at most 0\.05 s\n.*LAPIDARY_LIBRARY_SECONDS=1 in the environment/,
    );
    delete process.env[seconds];
    expect(chat(talk(2))).toBe(answer);
    expect(chat(talk(50_000))).toContain('<assistant>MESSAGE 49999');
  });

  it('are ended where they take more memory than they are given', () => {
    process.env[mebibytes] = '40';
    const chat = chatTemplate(template, {})!;
    expect(chat(talk(2))).toHaveLength(35);
    expect(() => chat(talk(400_000))).toThrow(
      /took more memory.*\n.*at most 40 MiB.*\n.*LAPIDARY_LIBRARY_MIB=160/,
    );
    expect(chat(talk(2))).toHaveLength(35);
  });

  it('keep several tokenizers at a time, through the end of their process', () => {
    const [first, second] = [loadTokenizer(files), loadTokenizer(files)];
    const ids = first.encode('Once upon a time');
    process.env[seconds] = '0.05';
    expect(() => chatTemplate(template, {})!(talk(50_000))).toThrow('took more time');
    delete process.env[seconds];
    expect(first.encode('Once upon a time')).toEqual(ids);
    expect(second.decode(ids)).toBe('Once upon a time');
  });

  it('are given limits that can be', () => {
    process.env[seconds] = 'long';
    expect(() => loadTokenizer(files)).toThrow(/LAPIDARY_LIBRARY_SECONDS: .*\n.*above 0\n.*long/);
  });

  it('say what they refuse, with the file', () => {
    const definition = JSON.parse(readFileSync(new URL('tokenizer.json', pebble), 'utf8'));
    const damaged = (change: object) =>
      new Map([['tokenizer.json', () => Buffer.from(JSON.stringify({ ...definition, ...change }))]]);
    expect(() => loadTokenizer(damaged({ model: { type: 'Nothing' } }))).toThrow(
      /tokenizer\.json: .*cannot be read/,
    );
    const added = { ...definition.added_tokens[0], content: '<half>', id: 0.5 };
    const half = loadTokenizer(damaged({ added_tokens: [...definition.added_tokens, added] }));
    expect(() => half.encode('a <half> b')).toThrow(/tokenizer\.json: .*fails at its work[^]*the id 0\.5/);
  });
});

it('texts that are encoded together have the ids that they have alone', () => {
  const tokenizer = loadTokenizer(files);
  const texts = Array.from({ length: 300 }, (_, index) =>
    `Tim saw ${index} birds. `.repeat(1 + (index % 70)),
  );
  const together = [...encodeEach(tokenizer, texts, { bos: true })];
  expect(together).toHaveLength(texts.length);
  for (const index of [0, 1, 150, 299])
    expect(together[index]).toEqual(tokenizer.encode(texts[index]!, { bos: true }));
});
