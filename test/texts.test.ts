/** Texts as people have them, measured: one long document, chat data, texts that begin with BOS. */

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readDocuments } from '../src/calibrate/data.ts';
import { compress } from '../src/compress.ts';
import { measure } from '../src/measure/measure.ts';
import { parseRecipe } from '../src/recipe/recipe.ts';
import { answer, scratchFolder } from './command-line.ts';
import { writeTinyCheckpoint } from './models/checkpoint.ts';

const scratch = scratchFolder();
const model = scratch.path('tiny');
const threads = 1;
const stories = readFileSync('models/pebble/stories.jsonl', 'utf8').split('\n').slice(0, 6);
const texts = stories.map((line) => JSON.parse(line).text as string);

function write(name: string, content: string | readonly object[]): string {
  const path = scratch.path(name);
  const lines = typeof content === 'string' ? content : content.map((row) => JSON.stringify(row)).join('\n');
  writeFileSync(path, lines);
  return path;
}

beforeAll(async () => {
  await writeTinyCheckpoint(model);
});
afterAll(scratch.remove);

describe('one document', () => {
  it('is measured to its end, in windows of the length', async () => {
    const data = write('one.txt', texts.join('\n'));
    const whole = await measure(model, { data, threads, length: 32 });
    expect(whole.tokens).toBeGreaterThan(600);
    expect(whole.perplexity.low).toBeLessThan(whole.perplexity.value);
    const longer = await measure(model, { data, threads });
    expect(longer.tokens).toBe(whole.tokens);
    expect((await measure(model, { data, threads, length: 32, documents: 3 })).tokens).toBe(3 * 31);
  });

  it('that is one sequence has no intervals, in tables and in JSON', async () => {
    const data = write('short.txt', 'Once upon a time there was a cat.');
    const flags = ['--data', data, '--against', model];
    const shown = await answer(['evaluate', model, ...flags]);
    expect(shown.stdout).toMatch(/perplexity +\d+\.\d+\n/);
    expect(shown.stdout).not.toMatch(/\[|interval/);
    expect((await answer(['compare', model, ...flags])).stdout).not.toContain('[');
    const json = JSON.parse((await answer(['evaluate', model, ...flags, '--json'])).stdout);
    expect(Object.keys(json.perplexity)).toEqual(['value']);
    expect(Object.keys(json.kl)).toEqual(['mean', 'median', 'p99']);
  });
});

describe('chat data', () => {
  const chats = texts.map((text) => [
    { role: 'user', content: 'A story, please.' },
    { role: 'assistant', content: text },
  ]);
  const template =
    "{{ bos_token }}{% for message in messages %}{{ message.role + ': ' + message.content + '\\n' }}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}";
  const written = chats.map((chat) => chat.map(({ role, content }) => `${role}: ${content}\n`).join(''));

  it('without a template says what to do', async () => {
    const data = write(
      'chats.jsonl',
      chats.map((messages) => ({ messages })),
    );
    await expect(measure(model, { data, threads })).rejects.toThrow(
      /no chat template(.|\n)*chat_template.jinja/,
    );
  });

  it("calibrates and is measured as the model's own template writes it", async () => {
    const chatty = scratch.path('chatty');
    await writeTinyCheckpoint(chatty);
    writeFileSync(join(chatty, 'chat_template.jinja'), template);
    const named = (names: readonly [string, string], field: string) =>
      write(
        `${field}.json`,
        JSON.stringify(
          chats.map((chat) => ({
            [field]: chat.map(({ role, content }) => ({ [names[0]]: role, [names[1]]: content })),
          })),
        ),
      );
    const plain = await measure(chatty, {
      data: write(
        'written.jsonl',
        written.map((text) => ({ text })),
      ),
      threads,
    });
    for (const data of [named(['role', 'content'], 'messages'), named(['from', 'value'], 'conversations')])
      expect(await measure(chatty, { data, threads })).toEqual(plain);
    const { compressed } = await compress({
      recipe: parseRecipe({
        model: chatty,
        steps: [{ method: 'gptq', bits: 4, group: 32 }],
        calibration: { data: scratch.path('messages.json'), sequences: 4, length: 32 },
      }),
      out: scratch.path('chatty-4bit'),
      speed: false,
      threads,
    });
    expect(compressed.kl!.mean).toBeGreaterThan(0);
  });

  it('that its template refuses is told by its place', async () => {
    const strict = scratch.path('strict');
    await writeTinyCheckpoint(strict);
    writeFileSync(join(strict, 'chat_template.jinja'), "{{ raise_exception('no systems') }}");
    const data = write('refused.jsonl', [{ messages: chats[0] }]);
    await expect(measure(strict, { data, threads })).rejects.toThrow(/conversation 1.*(.|\n)*no systems/);
  });
});

const cases = '../shared/cases';
describe('texts that begin with BOS', () => {
  it('are measured like those that do not', async () => {
    const plain = write(
      'plain.jsonl',
      texts.map((text) => ({ text })),
    );
    const begun = write(
      'begun.jsonl',
      texts.map((text) => ({ text: `<s>${text}` })),
    );
    const [a, b] = [
      await measure(model, { data: plain, threads }),
      await measure(model, { data: begun, threads }),
    ];
    expect(b).toEqual(a);
  });

  it.skipIf(!existsSync(cases))(
    'are the same in ../shared/cases (skipped where it is not there)',
    async () => {
      const [a, b] = await Promise.all(
        ['plain', 'begins-with-bos'].map((name) =>
          measure(`${cases}/odd-width`, { data: `${cases}/texts/${name}.jsonl`, threads }),
        ),
      );
      expect(b!.perplexity).toEqual(a!.perplexity);
      const array = await measure(`${cases}/odd-width`, { data: `${cases}/texts/array.json`, threads });
      expect(array).toEqual(a);
      expect((await readDocuments(`${cases}/texts/messages.jsonl`))[0]).toHaveLength(2);
    },
  );
});
