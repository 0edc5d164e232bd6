import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import type { CardData } from './card.ts';
import { modelCard } from './card.ts';
import { scriptText } from './use.ts';

const counts = { parameters: 4_000_000, multiplyAdds: 4_000_000 };

const data: CardData = {
  name: 'tiny-4bit',
  original: { name: 'tiny', baseModel: 'org/tiny', license: 'apache-2.0' },
  modelType: 'llama',
  summary: 'GPTQ, 4 bits, groups of 32',
  notes: ['Three-bit weights are stored in four bits.'],
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
  files: [
    {
      path: 'onnx/model_q4.onnx',
      type: 'q4',
      bytes: 2_500_000,
      checks: [{ engine: 'ONNX Runtime', maxDifference: 0.0000021 }],
    },
  ],
  before: {
    bytes: 8_000_000,
    bitsPerWeight: 16,
    ...counts,
    perplexity: { value: 3.4, low: 3.3, high: 3.5 },
    speed: { prefillTokensPerSecond: 900, decodeTokensPerSecond: 100 },
  },
  after: {
    bytes: 2_400_000,
    bitsPerWeight: 4.5,
    ...counts,
    perplexity: { value: 3.6, low: 3.5, high: 3.7 },
    kl: { mean: 0.0123, median: 0.004, p99: 0.2, low: 0.011, high: 0.0136 },
    agreement: { value: 0.95, low: 0.94, high: 0.96 },
    speed: { prefillTokensPerSecond: 1200, decodeTokensPerSecond: 230 },
  },
  evaluation: { data: 'stories.txt', tokens: 12571 },
  report: 'report.html',
  recipe: 'seed: 0\nsteps:\n  - method: gptq\n',
  placeholders: 'Here MODEL the original.',
  reproduction: [['command', 'lapidary compress --recipe recipe.yaml']],
};

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
    const card = modelCard({ ...data, after: { ...data.after, speed } });
    expect(card).toContain('| prompt, tokens a second | 900 | 850 |');
    expect(card).toContain('| generation, tokens a second | 100 | 50 (slower) |');
  });

  it('says that a result is larger, and calls it quantized only where a weight has fewer bits', () => {
    const card = modelCard({ ...data, after: { ...data.after, bytes: 9_000_000, bitsPerWeight: 16 } });
    expect(lines(card)).toContain('| size of the weights | 8.00 MB | 9.00 MB (larger) |');
    const [, front] = card.split('---\n');
    expect(parse(front)).toMatchObject({ base_model: 'org/tiny' });
    expect(parse(front)).not.toHaveProperty('base_model_relation');
  });

  it('has no row and no field for what is not known', () => {
    const { evaluation: _, ...rest } = data;
    const bare = { bytes: 1, bitsPerWeight: 4, ...counts };
    const card = modelCard({ ...rest, original: { name: 'tiny' }, before: bare, after: bare });
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

  it('carries the recipe whole, whatever is in it', () => {
    const recipe = 'model: "a ``` b | c"\n';
    expect(modelCard({ ...data, recipe })).toContain(`\`\`\`\`yaml\n${recipe}\`\`\`\``);
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
