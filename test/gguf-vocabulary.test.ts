/** Texts read by llama.cpp and by the model's own tokenizer: what the rule says is what llama.cpp does. */

import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { exportGguf } from '../src/export/gguf-write.ts';
import type { Llama } from '../src/export/llama/find.ts';
import { askLlama } from '../src/export/llama/process.ts';
import type { Model } from '../src/models/model.ts';
import { openModel } from '../src/open.ts';
import { gapsByRule, gapTexts, vocabularyGaps } from '../src/tokenizer/gguf-gaps.ts';
import { vocabularyFromFiles } from '../src/tokenizer/gguf-write.ts';
import { loadTokenizer } from '../src/tokenizer/tokenizer.ts';
import { answer } from './command-line.ts';
import { hasLlama, openLlama } from './engines/llama/llama.ts';
import { writeTinyCheckpoint } from './models/checkpoint.ts';

const missing = hasLlama ? '' : ' (skipped: run node test/engines/install.js)';
const scratch = mkdtempSync(join(tmpdir(), 'lapidary-vocabulary-'));
const tiny = join(scratch, 'tiny');

let llama: Llama;
beforeAll(async () => {
  if (hasLlama) llama = await openLlama();
  await writeTinyCheckpoint(tiny, { num_hidden_layers: 1 });
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

type Definition = Record<string, any>;

/** The tiny model with another definition of its tokenizer. */
async function withTokenizer(change: (definition: Definition) => void): Promise<Model> {
  const { model } = await openModel(tiny);
  const definition = JSON.parse(readFileSync(join(tiny, 'tokenizer.json'), 'utf8'));
  change(definition);
  const files = new Map(model!.files).set('tokenizer.json', () => Buffer.from(JSON.stringify(definition)));
  return { ...model!, files };
}

async function bothOf(model: Model) {
  const path = join(scratch, 'model.gguf');
  await exportGguf(model, path, { name: 'tiny', floats: 'F16' });
  const words = vocabularyFromFiles(model.files, model.config.vocabulary, model.config);
  const texts = gapTexts(words);
  const question = { path, texts: [...texts.plain, ...texts.rare] };
  const found = await askLlama(llama.entry, 'tokens', question, { threads: 1 });
  const asked = vocabularyGaps(loadTokenizer(model.files), texts, found);
  return { asked, byRule: gapsByRule(model.files, words) };
}

/** A vocabulary of SentencePiece's kind: bytes, the mark of a space, small letters. */
function piecewise(definition: Definition, scheme: string): void {
  const texts = ['<unk>', '<s>', '</s>'];
  for (let byte = 0; byte < 256; byte++)
    texts.push(`<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`);
  texts.push('▁', ...'abcdefghijklmnopqrstuvwxyz', '▁a', '▁t', 'he', '▁the', 'on');
  const merges = [
    ['▁', 'a'],
    ['▁', 't'],
    ['h', 'e'],
    ['▁t', 'he'],
    ['o', 'n'],
  ];
  const vocab = Object.fromEntries(texts.map((text, id) => [text, id]));
  const token = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  definition.added_tokens = [0, 1, 2].map((id) => ({ id, content: texts[id], ...token }));
  definition.normalizer = null;
  definition.pre_tokenizer = { type: 'Metaspace', replacement: '▁', prepend_scheme: scheme, split: false };
  definition.decoder = { type: 'ByteFallback' };
  definition.post_processor = null;
  definition.model = { type: 'BPE', unk_token: '<unk>', fuse_unk: true, byte_fallback: true, vocab, merges };
}

describe.skipIf(!hasLlama)(`the rule of what llama.cpp reads otherwise${missing}`, () => {
  it.each<[string, (definition: Definition) => void, (gaps: { plain: number; rare: number }) => boolean]>([
    ['the tokenizer that ships', () => {}, ({ plain, rare }) => plain === 0 && rare === 0],
    ['small letters', (d) => void (d.normalizer = { type: 'Lowercase' }), ({ plain }) => plain > 0],
    [
      'composed accents',
      (d) => void (d.normalizer = { type: 'NFC' }),
      ({ plain, rare }) => plain === 0 && rare === 1,
    ],
    [
      'special tokens that take the spaces around them',
      ({ added_tokens }) =>
        added_tokens.forEach((token: Definition) => Object.assign(token, { lstrip: true, rstrip: true })),
      ({ plain, rare }) => plain === 0 && rare > 2,
    ],
    [
      'a space before the first word',
      (d) => piecewise(d, 'first'),
      ({ plain, rare }) => plain === 0 && rare > 2,
    ],
    [
      'a space before every piece',
      (d) => piecewise(d, 'always'),
      ({ plain, rare }) => plain === 0 && rare > 0,
    ],
    ['no space before', (d) => piecewise(d, 'never'), ({ plain, rare }) => plain === 0 && rare === 0],
  ])('says of %s what llama.cpp does', async (_, change, expected) => {
    const { asked, byRule } = await bothOf(await withTokenizer(change));
    expect(byRule).toEqual(asked);
    expect(expected({ plain: asked.plain.length, rare: asked.rare.length })).toBe(true);
  });
});

const cases = '../shared/cases';
describe.skipIf(!existsSync(cases))('the cases of ../shared (skipped where it is not there)', () => {
  const toGguf = (name: string) => {
    const args = ['compress', `${cases}/${name}`, '--format', 'gguf', '--fit', 'plain', '--no-speed'];
    return answer([...args, '--out', join(scratch, name)]);
  };

  it('normalizer-and-stripping changes plain text: refused before the work', async () => {
    const { code, stderr } = await toGguf('normalizer-and-stripping');
    expect(code).toBe(3);
    expect(stderr).toMatch(/reads plain text otherwise(.|\n)*--for transformers.js/);
  });

  it('metaspace-first changes prompts alone: written, and said', async () => {
    const { code, stdout, stderr } = await toGguf('metaspace-first');
    expect(code, stderr).toBe(0);
    expect(stdout).toMatch(/llama\.cpp reads some texts otherwise.*leading space/);
  });
});
