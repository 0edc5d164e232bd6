import { describe, expect, it } from 'vitest';
import type { GgufValue } from './gguf/types.ts';
import { isLegalFile, mergedOrigin, originFromConfig, originFromGguf, originFromReadme } from './origin.ts';

const known = (origin: object) =>
  Object.fromEntries(Object.entries(origin).filter(([, value]) => value !== undefined));

describe('the front matter of a README.md', () => {
  it('says license and base model, as text or as the first of a list', () => {
    const text = '---\nlicense: Apache-2.0\nbase_model:\n  - org/base\n  - org/other\n---\n# A model\n';
    expect(known(originFromReadme(text))).toEqual({ license: 'apache-2.0', baseModel: 'org/base' });
  });

  it('says how a license is called that hubs have no id for', () => {
    const text = '---\r\nlicense: other\r\nlicense_name: my-terms\r\nlicense_link: LICENSE\r\n---\r\n';
    expect(known(originFromReadme(text))).toEqual({
      license: 'other',
      licenseName: 'my-terms',
      licenseLink: 'LICENSE',
    });
  });

  it.each([
    ['no front matter', '# A model\n---\nlicense: mit\n---\n'],
    ['none that ends', '---\nlicense: mit\n'],
    ['none that is YAML', '---\n: [\n---\n'],
    ['a list', '---\n- license\n---\n'],
    ['numbers', '---\nlicense: 3\nbase_model: 4\n---\n'],
    ['several lines', '---\nlicense: "a\\nb"\nbase_model: "a/b\\nc"\n---\n'],
    ['a path', '---\nbase_model: ../../etc\n---\n'],
  ])('says nothing where there is %s', (_, text) => {
    expect(known(originFromReadme(text))).toEqual({});
  });
});

describe('config.json', () => {
  it.each([
    ['org/name', 'org/name'],
    ['/home/me/model', undefined],
    ['./model', undefined],
    ['out/checkpoint-100', undefined],
    ['me/run/checkpoint-100', undefined],
    ['', undefined],
    [3, undefined],
  ])('"_name_or_path": %j is %j', (path, id) => {
    expect(originFromConfig({ _name_or_path: path }).baseModel).toBe(id);
  });
});

describe("a GGUF's metadata", () => {
  const text = (value: string): GgufValue => ({ type: 'string', value });

  it('says license and what it was converted from, before what that was made of', () => {
    const metadata = new Map([
      ['general.license', text('apache-2.0')],
      ['general.base_model.0.repo_url', text('https://huggingface.co/org/base')],
      ['general.source.repo_url', text('https://huggingface.co/org/chat')],
    ]);
    expect(known(originFromGguf(metadata))).toEqual({ license: 'apache-2.0', baseModel: 'org/chat' });
    metadata.delete('general.source.repo_url');
    expect(originFromGguf(metadata).baseModel).toBe('org/base');
  });

  it('says nothing by values of other types', () => {
    expect(known(originFromGguf(new Map([['general.license', { type: 'uint32', value: 3 }]])))).toEqual({});
  });
});

it('keeps the name of a license with it', () => {
  const [first, second] = [{ license: 'mit' }, { license: 'other', licenseName: 'x', baseModel: 'a/b' }];
  expect(known(mergedOrigin(first, second))).toEqual({ license: 'mit', baseModel: 'a/b' });
});

it.each([
  ['LICENSE', true],
  ['LICENSE.md', true],
  ['LICENSE-MIT', true],
  ['Licence.txt', true],
  ['NOTICE', true],
  ['USE_POLICY.md', true],
  ['NOTICED.md', false],
  ['tokenizer.json', false],
])('whether %s travels as terms: %s', (name, travels) => {
  expect(isLegalFile(name)).toBe(travels);
});
