import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { shipped } from '../open.ts';
import { gapsByRule } from './gguf-gaps.ts';
import { vocabularyFromFiles } from './gguf-write.ts';
import type { Files } from './tokenizer.ts';

const names = ['tokenizer.json', 'tokenizer_config.json'];
const filesIn = (folder: string): Files =>
  new Map(names.map((name) => [name, () => readFileSync(`${folder}/${name}`)]));

/** The tokenizer that ships, byte-level, with another definition. */
function changed(change: (definition: Record<string, any>) => void): Files {
  const definition = JSON.parse(readFileSync(`${shipped.folder}/tokenizer.json`, 'utf8'));
  change(definition);
  const files = new Map(filesIn(shipped.folder));
  return files.set('tokenizer.json', () => Buffer.from(JSON.stringify(definition)));
}
const gapsOf = (files: Files, size = 2048) => gapsByRule(files, vocabularyFromFiles(files, size));

describe('what llama.cpp reads otherwise, by rule', () => {
  it('is nothing of a tokenizer whose steps it has', () => {
    expect(gapsOf(filesIn(shipped.folder))).toEqual({ plain: [], rare: [] });
  });

  it('is plain text where the tokenizer makes small letters of capitals', () => {
    const { plain } = gapsOf(changed((definition) => void (definition.normalizer = { type: 'Lowercase' })));
    expect(plain).toContain('The Capital of FRANCE is Paris');
  });

  it('is decomposed accents alone where it composes them', () => {
    const { plain, rare } = gapsOf(changed((definition) => void (definition.normalizer = { type: 'NFC' })));
    expect(plain).toEqual([]);
    expect(rare).toEqual(['cafe\u0301 u\u0308ber']);
  });

  it('is text beside a special token that takes the space behind it', () => {
    const { plain, rare } = gapsOf(
      changed(({ added_tokens }) => {
        for (const token of added_tokens) if (token.content === '</s>') token.rstrip = true;
      }),
    );
    expect(plain).toEqual([]);
    expect(rare).toContain('</s> Hello');
    expect(rare).not.toContain('<s> Hello');
  });

  const cases = '../shared/cases';
  it.skipIf(!existsSync(cases))('in ../shared/cases (skipped where it is not there)', () => {
    expect(gapsOf(filesIn(`${cases}/normalizer-and-stripping`), 272).plain.length).toBeGreaterThan(0);
    const first = gapsOf(filesIn(`${cases}/metaspace-first`), 512);
    expect(first.plain).toEqual([]);
    expect(first.rare).toEqual(expect.arrayContaining([' leading space', '<s> Hello']));
  });
});
