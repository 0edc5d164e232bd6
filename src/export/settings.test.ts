import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openGolden } from '../../test/engines/models.ts';
import { writeSettings } from './settings.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'lapidary-settings-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** What is written of a model with these files. */
async function written(name: string, files: Record<string, object | string>, change: object = {}) {
  const model = await openGolden('llama');
  const bytes = (content: object | string) => () =>
    Buffer.from(typeof content === 'string' ? content : JSON.stringify(content));
  const all = Object.entries({ 'tokenizer.json': {}, ...files });
  writeSettings(
    {
      ...model,
      config: { ...model.config, ...change },
      files: new Map(all.map(([key, content]) => [key, bytes(content)])),
    },
    folder,
    {},
  );
  return JSON.parse(readFileSync(join(folder, name), 'utf8'));
}

describe('tokenizer_config.json', () => {
  const config = 'tokenizer_config.json';

  it('is made where there is none, and holds the template of another file', async () => {
    expect(await written(config, { 'chat_template.jinja': 'x' })).toEqual({
      tokenizer_class: 'PreTrainedTokenizerFast',
      model_max_length: 128,
      chat_template: 'x',
    });
  });

  it('holds templates of other names in a list, which transformers.js looks through, and their files travel', async () => {
    const files = {
      'chat_template.jinja': 'x',
      'additional_chat_templates/tool_use.jinja': 'y',
      // Files win, as in transformers.
      [config]: { chat_template: [{ name: 'rag', template: 'z' }] },
    };
    expect(await written(config, files)).toEqual({
      chat_template: [
        { name: 'default', template: 'x' },
        { name: 'tool_use', template: 'y' },
      ],
    });
    expect(readFileSync(join(folder, 'additional_chat_templates', 'tool_use.jinja'), 'utf8')).toBe('y');
  });

  it('holds the special tokens of another file, for transformers.js reads this one alone', async () => {
    const files = {
      [config]: { eos_token: '</s>', bos_token: null },
      'special_tokens_map.json': { bos_token: '<b>', eos_token: '<e>', pad_token: { content: '<p>' } },
    };
    expect(await written(config, files)).toEqual({
      eos_token: '</s>',
      bos_token: null,
      pad_token: { content: '<p>' },
    });
  });

  it('says what transformers 5 says in words of the versions before it', async () => {
    const own = { tokenizer_class: 'TokenizersBackend', extra_special_tokens: ['<|im_start|>'] };
    expect(await written(config, { [config]: own })).toEqual({
      tokenizer_class: 'PreTrainedTokenizerFast',
      additional_special_tokens: ['<|im_start|>'],
    });
    const named = { extra_special_tokens: { image_token: '<i>' } };
    expect(await written(config, { [config]: named })).toEqual(named);
  });
});

describe('generation_config.json', () => {
  it('names no token that the model has no row for', async () => {
    const own = { pad_token_id: 300, eos_token_id: 2, temperature: 0.6 };
    const change = { bos: undefined, eos: [2], pad: undefined };
    expect(await written('generation_config.json', { 'generation_config.json': own }, change)).toEqual({
      temperature: 0.6,
      eos_token_id: 2,
      pad_token_id: null,
    });
  });
});
