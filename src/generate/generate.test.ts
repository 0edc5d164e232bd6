import { describe, expect, it } from 'vitest';
import { numerals, openGolden } from '../../test/engines/models.ts';
import { ExitCode } from '../base/errors.ts';
import { writeText } from './generate.ts';
import type { Model } from '../models/model.ts';
import { logits } from '../models/runner.ts';
import type { Chat } from '../tokenizer/chat.ts';

const prompt = '5 9 77 30 4';

/** The definition of greedy text: the whole sequence again for each token. */
async function byDefinition(model: Model, tokens: number): Promise<number[]> {
  const ids = prompt.split(' ').map(Number);
  for (let i = 0; i < tokens; i++) {
    const { data } = await logits(model, [ids]);
    const last = (data as Float32Array).subarray(-256);
    ids.push(last.indexOf(Math.max(...last)));
  }
  return ids.slice(5);
}

const write = (
  model: Model,
  given: Parameters<typeof writeText>[1],
  options: Parameters<typeof writeText>[2] = {},
  tell?: (text: string) => void,
) => writeText({ source: model, tokenizer: numerals }, given, options, tell ? { tell } : {});

const withEnd = (model: Model, ...eos: number[]): Model => ({ ...model, config: { ...model.config, eos } });

describe('writing', () => {
  it.each(['llama', 'qwen3', 'gpt2'] as const)(
    '%s: greedy text is the most likely token each time',
    async (name) => {
      const model = withEnd(await openGolden(name));
      const { ids, finish, promptTokens } = await write(model, prompt, { maxTokens: 10 });
      expect(ids).toEqual(await byDefinition(model, 10));
      expect({ finish, promptTokens }).toEqual({ finish: 'length', promptTokens: 5 });
    },
  );

  it('draws the same from the same seed, other things from others, and the greedy text where nothing is left to draw', async () => {
    const model = withEnd(await openGolden('llama'));
    const draw = async (options: object) =>
      (await write(model, prompt, { maxTokens: 12, temperature: 1, ...options })).ids;
    const greedy = await draw({ temperature: 0 });
    expect(await draw({ seed: 1 })).toEqual(await draw({ seed: 1 }));
    expect(await draw({ seed: 1 })).not.toEqual(await draw({ seed: 2 }));
    expect(await draw({ topK: 1 })).toEqual(greedy);
    expect(await draw({ topP: 1e-9 })).toEqual(greedy);
    expect(await draw({ temperature: 1e-4 })).toEqual(greedy);
  });

  it('ends where the model says so, without the token that says it', async () => {
    const model = await openGolden('llama');
    const all = await byDefinition(model, 6);
    const end = all[3];
    const { ids, finish } = await write(withEnd(model, end), prompt, { maxTokens: 10 });
    expect(ids).toEqual(all.slice(0, all.indexOf(end)));
    expect(finish).toBe('eos');
  });

  it('ends with the context', async () => {
    const model = withEnd(await openGolden('llama'));
    const { ids, finish } = await write(model, prompt, { maxTokens: 100, context: 9 });
    expect(ids).toHaveLength(4);
    expect(finish).toBe('context');
    await expect(write(model, prompt, { context: 5 })).rejects.toThrow('no room in the context');
  });

  it('ends when it is told to, with what it has', async () => {
    const abort = new AbortController();
    let pieces = 0;
    const tell = () => {
      if (++pieces === 3) abort.abort();
    };
    const model = withEnd(await openGolden('llama'));
    const { ids, finish } = await write(model, prompt, { signal: abort.signal }, tell);
    expect(finish).toBe('aborted');
    expect(ids).toHaveLength(3);
  });

  it('tells its text as it comes', async () => {
    const model = withEnd(await openGolden('llama'));
    const pieces: string[] = [];
    const { text } = await write(model, prompt, { maxTokens: 8 }, (piece) => void pieces.push(piece));
    expect(pieces.length).toBeGreaterThan(7);
    expect(pieces.join('')).toBe(text);
    expect(text.trim().split(' ')).toHaveLength(8);
  });

  it('refuses options out of range, an empty prompt and a chat without a template', async () => {
    const model = await openGolden('llama');
    for (const options of [{ temperature: -1 }, { topK: 0 }, { topP: 0 }, { maxTokens: 1.5 }]) {
      await expect(write(model, prompt, options)).rejects.toMatchObject({
        exitCode: ExitCode.usage,
      });
    }
    await expect(write(model, '')).rejects.toThrow('the prompt is empty');
    await expect(write(model, prompt, { chat: true })).rejects.toThrow('no chat template');
  });

  it('answers a conversation by the template', async () => {
    const model = await openGolden('llama');
    const chat: Chat = (messages) =>
      messages.map(({ role, content }) => `${role.length} ${content}`).join(' ');
    const messages = [
      { role: 'system', content: '9' },
      { role: 'user', content: '77 30' },
    ];
    const options = { maxTokens: 3 };
    const answered = await writeText({ source: model, tokenizer: { ...numerals, chat } }, messages, options);
    expect(answered.ids).toEqual((await write(model, '6 9 4 77 30', options)).ids);
    await expect(write(model, messages)).rejects.toThrow('no chat template');
  });
});
