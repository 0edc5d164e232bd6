/** The library's ways to text: `generate` for one prompt, `openGenerator` for a model that is kept open. */

import { afterEach, describe, expect, it } from 'vitest';
import type { Golden } from '../../test/engines/models.ts';
import { numerals, openGolden } from '../../test/engines/models.ts';
import { ExitCode } from '../base/errors.ts';
import type { OpenedCheckpoint } from '../open.ts';
import { openModel } from '../open.ts';
import type { ChatMessage } from '../tokenizer/chat.ts';
import type { TextGenerator } from './generator.ts';
import { generate, openGenerator } from './generator.ts';

const options = { threads: 1 };
const prompt = '5 9 77 30 4';

/** A tiny model that says numbers, never ends by itself, and takes a conversation as its contents. */
async function tiny(name: Golden = 'llama'): Promise<OpenedCheckpoint> {
  const golden = await openGolden(name);
  const model = { ...golden, config: { ...golden.config, eos: [] } };
  const chat = (messages: readonly ChatMessage[]) => messages.map(({ content }) => content).join(' ');
  const { context } = model.config;
  return {
    name,
    model,
    tokenizer: { ...numerals, chat },
    context,
    checkpoint: { tensors: new Map(), identity: () => name },
  };
}

const piecesOf = async (texts: AsyncIterable<string>): Promise<string[]> => {
  const pieces: string[] = [];
  for await (const text of texts) pieces.push(text);
  return pieces;
};

describe('generate', () => {
  it('gives text as it comes, and the whole to whom awaits it: the work is done once', async () => {
    const writing = generate(await tiny(), prompt, { ...options, maxTokens: 8 });
    const pieces = await piecesOf(writing);
    const whole = await writing;
    expect(pieces.length).toBeGreaterThan(1);
    expect(pieces.join('')).toBe(whole.text);
    expect(whole).toMatchObject({ promptTokens: 5, cachedTokens: 0, finish: 'length' });
    expect(await piecesOf(writing)).toEqual(pieces);
    expect(await writing).toBe(whole);
  });

  it('takes what openModel takes, or has opened', async () => {
    const asked = { ...options, maxTokens: 6 };
    const { ids } = await generate('pebble', 'Once upon a time', asked);
    expect(ids.length).toBeGreaterThan(0);
    expect((await generate(await openModel('pebble'), 'Once upon a time', asked)).ids).toEqual(ids);
  });

  it('does nothing before it is asked, and throws to whom asks', async () => {
    // Neither awaited nor iterated: no model is looked for.
    generate('./no-such-model', prompt);
    const writing = generate('./no-such-model', prompt);
    await expect(piecesOf(writing)).rejects.toThrow('no-such-model');
    await expect(writing).rejects.toThrow('no-such-model');
    await expect(generate('pebble', prompt, { temperature: -1 })).rejects.toMatchObject({
      exitCode: ExitCode.usage,
    });
  });

  it('stops where the loop is left, with what it has', async () => {
    const writing = generate(await tiny(), prompt, { ...options, maxTokens: 60 });
    let said = '';
    for await (const text of writing) {
      said += text;
      break;
    }
    const { text, ids, finish } = await writing;
    expect(finish).toBe('aborted');
    expect(ids.length).toBeLessThan(10);
    expect(text.startsWith(said)).toBe(true);
  });

  it('stops by a signal, without an error', async () => {
    const stop = new AbortController();
    const writing = generate(await tiny(), prompt, { ...options, signal: stop.signal });
    for await (const text of writing) if (text !== '') stop.abort();
    expect((await writing).finish).toBe('aborted');
  });
});

describe('a generator that is kept open', () => {
  let generator: TextGenerator;
  afterEach(() => generator.close());

  it.each(['llama', 'qwen3', 'gpt2'] as const)(
    '%s: computes what is new of a conversation alone, and says the same as one that computes it all',
    async (name) => {
      const model = await tiny(name);
      generator = await openGenerator(model, options);
      const messages: ChatMessage[] = [{ role: 'user', content: prompt }];
      for (const content of ['8 15', '16 23 42', '4']) {
        const whole = await generate(model, messages, { ...options, maxTokens: 6 });
        const kept = await generator.generate(messages, { maxTokens: 6 });
        expect(kept.ids).toEqual(whole.ids);
        expect(kept.promptTokens).toBe(whole.promptTokens);
        // All of the prompt before and its answer, but for the answer's last token, which was never read.
        const before = messages.slice(0, -1).map(({ content }) => content.split(' ').length);
        const read = before.reduce((sum, count) => sum + count, 0);
        expect(kept.cachedTokens).toBe(Math.max(0, read - 1));
        messages.push({ role: 'assistant', content: kept.text.trim() }, { role: 'user', content });
      }
    },
  );

  it('starts anew where another text begins, and computes one token where nothing is new', async () => {
    const model = await tiny();
    generator = await openGenerator(model, options);
    const ask = (text: string) => generator.generate(text, { maxTokens: 4 });
    const first = await ask(prompt);
    const again = await ask(prompt);
    expect(again).toMatchObject({ ids: first.ids, promptTokens: 5, cachedTokens: 4 });
    const shorter = await ask('5 9 77');
    expect(shorter).toMatchObject({ promptTokens: 3, cachedTokens: 2 });
    expect(shorter.ids).toEqual((await generate(model, '5 9 77', { ...options, maxTokens: 4 })).ids);
    expect(await ask('6 9 77 30')).toMatchObject({ cachedTokens: 0 });
  });

  it('goes on where an answer was broken off', async () => {
    const model = await tiny();
    generator = await openGenerator(model, options);
    const writing = generator.generate(prompt, { maxTokens: 60 });
    for await (const text of writing) if (text !== '') break;
    expect((await writing).finish).toBe('aborted');
    const { ids, cachedTokens } = await generator.generate(prompt, { maxTokens: 5 });
    expect(cachedTokens).toBe(4);
    expect(ids).toEqual((await generate(model, prompt, { ...options, maxTokens: 5 })).ids);
  });

  it('writes one text after the other, however many are asked for at once', async () => {
    generator = await openGenerator(await tiny(), options);
    const prompts = [prompt, '1 2 3', prompt];
    const together = await Promise.all(prompts.map((text) => generator.generate(text, { maxTokens: 5 })));
    expect(together[0]!.ids).toEqual(together[2]!.ids);
    expect(together[1]!.ids).toEqual((await generator.generate('1 2 3', { maxTokens: 5 })).ids);
  });

  it('is whole after a prompt that it refused', async () => {
    generator = await openGenerator(await tiny(), options);
    await expect(generator.generate('')).rejects.toThrow('the prompt is empty');
    await expect(generator.generate(prompt, { topP: 0 })).rejects.toMatchObject({ exitCode: ExitCode.usage });
    await expect(generator.generate(prompt, { context: 5 })).rejects.toThrow('no room in the context');
    expect((await generator.generate(prompt, { maxTokens: 3 })).ids).toHaveLength(3);
  });

  it('closes in the middle of a text, which ends with what it has; then it writes no more', async () => {
    generator = await openGenerator(await tiny(), options);
    const writing = generator.generate(prompt, { maxTokens: 60 });
    for await (const text of writing) if (text !== '') await generator[Symbol.asyncDispose]();
    expect((await writing).finish).toBe('aborted');
    await generator.close();
    await expect(generator.generate(prompt)).rejects.toThrow('this generator was closed');
  });
});
