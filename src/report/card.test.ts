import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import type { CardData, CardResult } from './card.ts';
import { modelCard } from './card.ts';
import { scriptText } from './use.ts';

const counts = { parameters: 4_000_000, multiplyAdds: 4_000_000 };

const result: CardResult = {
  name: 'compressed',
  summary: 'GPTQ, 4 bits, groups of 32',
  notes: ['Three-bit weights are stored in four bits.'],
  files: [
    {
      path: 'onnx/model_q4.onnx',
      type: 'q4',
      bytes: 2_500_000,
      checks: [{ engine: 'ONNX Runtime', maxDifference: 0.0000021 }],
    },
  ],
  after: {
    bytes: 2_400_000,
    bitsPerWeight: 4.5,
    ...counts,
    perplexity: { value: 3.6, low: 3.5, high: 3.7 },
    kl: { mean: 0.0123, median: 0.004, p99: 0.2, low: 0.011, high: 0.0136 },
    agreement: { value: 0.95, low: 0.94, high: 0.96 },
    speed: { prefillTokensPerSecond: 1200, decodeTokensPerSecond: 230 },
  },
  answers: [{ prompt: 'Once', original: ' upon a time', compressed: ' there was' }],
  recipe: { name: 'recipe.yaml', text: 'seed: 0\nsteps:\n  - method: gptq\n' },
  command: 'lapidary compress --recipe recipe.yaml',
};

const data: CardData = {
  name: 'tiny-4bit',
  original: { name: 'tiny', baseModel: 'org/tiny', license: 'apache-2.0' },
  modelType: 'llama',
  format: {
    library: 'transformers.js',
    tags: ['onnx'],
    usage: [
      {
        title: 'In Node:',
        language: 'js',
        code: "pipeline('text-generation', './tiny-4bit', { dtype: 'q4' })",
      },
    ],
  },
  before: {
    bytes: 8_000_000,
    bitsPerWeight: 16,
    ...counts,
    perplexity: { value: 3.4, low: 3.3, high: 3.5 },
    speed: { prefillTokensPerSecond: 900, decodeTokensPerSecond: 100 },
  },
  results: [result],
  evaluation: { data: 'stories.txt', tokens: 12571 },
  report: 'report.html',
  placeholders: 'Here MODEL the original.',
  reproduction: [['seed', '0']],
};

/** The same result, measured otherwise. */
const measuring = (after: Partial<CardResult['after']>): CardData => ({
  ...data,
  results: [{ ...result, after: { ...result.after, ...after } }],
});

const lines = (card: string) => card.split('\n');

describe('the model card', () => {
  it('begins with what hubs read', () => {
    const [, front] = modelCard(data).split('---\n');
    expect(parse(front)).toEqual({
      license: 'apache-2.0',
      base_model: 'org/tiny',
      base_model_relation: 'quantized',
      library_name: 'transformers.js',
      pipeline_tag: 'text-generation',
      tags: ['lapidary', 'onnx', 'llama'],
    });
  });

  it('tells what was measured before and after, with intervals', () => {
    const card = lines(modelCard(data));
    expect(card).toContain('| size of the weights | 8.00 MB | 2.40 MB |');
    expect(card).toContain('| perplexity | 3.400 [3.300, 3.500] | 3.600 [3.500, 3.700] |');
    expect(card).toContain('| KL divergence to the original, mean |  | 0.01230 [0.01100, 0.01360] |');
    expect(card).toContain('| same most likely token |  | 95.00% [94.00, 96.00] |');
    expect(card).toContain('| prompt, tokens a second | 900 | 1200 |');
    expect(card).toContain('| generation, tokens a second | 100 | 230 |');
    expect(card).toContain('| `onnx/model_q4.onnx` | q4 | 2.50 MB | ONNX Runtime | 2.1e-6 |');
    expect(card.join('\n')).toContain('12,571 predicted tokens');
  });

  it('says where it is slower than the original', () => {
    const speed = { prefillTokensPerSecond: 850, decodeTokensPerSecond: 50 };
    const card = modelCard(measuring({ speed }));
    expect(card).toContain('| prompt, tokens a second | 900 | 850 |');
    expect(card).toContain('| generation, tokens a second | 100 | 50 (slower) |');
  });

  it('says that a result is larger, and calls it quantized only where a weight has fewer bits', () => {
    const card = modelCard(measuring({ bytes: 9_000_000, bitsPerWeight: 16 }));
    expect(lines(card)).toContain('| size of the weights | 8.00 MB | 9.00 MB (larger) |');
    const [, front] = card.split('---\n');
    expect(parse(front)).toMatchObject({ base_model: 'org/tiny' });
    expect(parse(front)).not.toHaveProperty('base_model_relation');
  });

  it('has no row and no field for what is not known', () => {
    const { evaluation: _, ...rest } = data;
    const bare = { bytes: 1, bitsPerWeight: 4, ...counts };
    const results = [{ ...result, after: { ...bare } }];
    const card = modelCard({ ...rest, original: { name: 'tiny' }, before: bare, results });
    expect(card).not.toMatch(/perplexity|KL|license|base_model|undefined|NaN|predicted|plots/);
    expect(lines(card)).toContain('What became of each tensor: [report.html](report.html).');
  });

  it('names the original, by its page where it has one', () => {
    expect(modelCard(data)).toContain('[org/tiny](https://huggingface.co/org/tiny), compressed');
    expect(modelCard({ ...data, original: { name: 'tiny' } })).toContain('`tiny`, compressed with Lapidary');
  });

  it('passes on a license that has a name of its own', () => {
    const terms = { license: 'other', licenseName: 'tiny-terms', licenseLink: 'https://tiny.example/terms' };
    const [, front] = modelCard({ ...data, original: { name: 'tiny', ...terms } }).split('---\n');
    expect(parse(front)).toMatchObject({
      license: 'other',
      license_name: 'tiny-terms',
      license_link: 'https://tiny.example/terms',
    });
  });

  it('says how each of its examples is run', () => {
    expect(modelCard(data)).toContain("In Node:\n\n```js\npipeline('text-generation', './tiny-4bit'");
    expect(modelCard(data)).toContain('Here MODEL the original.');
  });

  it('has a column, a command and a recipe for each of several types', () => {
    const other: CardResult = {
      ...result,
      name: 'q8',
      summary: 'Nearest codes, 8 bits',
      files: [{ ...result.files[0]!, path: 'onnx/model_quantized.onnx', type: 'q8' }],
      after: { ...result.after, bitsPerWeight: 8.5 },
      recipe: { name: 'recipe-q8.yaml', text: 'seed: 1\n' },
      command: 'lapidary compress --recipe recipe-q8.yaml',
    };
    const card = lines(modelCard({ ...data, results: [{ ...result, name: 'q4' }, other] }));
    expect(card).toContain('|  | original | q4 | q8 |');
    expect(card).toContain('| bits a weight | 16.00 | 4.50 | 8.50 |');
    expect(card).toContain('- q8: Nearest codes, 8 bits.');
    // What is true of all is said once.
    expect(card.filter((line) => line.includes('Three-bit weights'))).toEqual([
      '- Three-bit weights are stored in four bits.',
    ]);
    expect(card).toContain('| prompt | original | q4 | q8 |');
    expect(card).toContain('| `onnx/model_quantized.onnx` | q8 | 2.50 MB | ONNX Runtime | 2.1e-6 |');
    expect(card).toContain('The other types are used the same way: `q8` in place of `q4`.');
    expect(card).toContain('| command for q8 | `lapidary compress --recipe recipe-q8.yaml` |');
    expect(card).toContain('`recipe-q8.yaml`:');
  });

  it('carries the recipe whole, whatever is in it', () => {
    const recipe = 'model: "a ``` b | c"\n';
    const results = [{ ...result, recipe: { name: 'recipe.yaml', text: recipe } }];
    expect(modelCard({ ...data, results })).toContain(`\`\`\`\`yaml\n${recipe}\`\`\`\``);
    expect(modelCard({ ...data, reproduction: [['seed', 'a|b']] })).toContain('| seed | `a\\|b` |');
  });

  it('is the same for the same data', () => {
    expect(modelCard(data)).toBe(modelCard(structuredClone(data)));
  });
});

describe('a text in an example of JavaScript', () => {
  it.each(["lily's", 'a "b"', 'a\\b', 'a\nb', '</script>', '`${x}`'])('%j is itself when it runs', (text) => {
    expect(new Function(`return ${scriptText(text)}`)()).toBe(text);
  });
});
