/** A small report, whole: what a run could say of a model of two layers. */

import type { ReportData } from '../src/report/data.ts';

const kinds = ['q_proj', 'down_proj'] as const;
const means = { tokens: 20, nats: 1.1, originalNats: 1, kl: 0.02, same: 0.95 };
const measures = { bytes: 1000, parameters: 500, bitsPerWeight: 16, multiplyAdds: 400 };
const estimate = { value: 3, low: 2.9, high: 3.1 };

export const exampleReport: ReportData = {
  format: 1,
  name: 'tiny-gptq-4bit',
  model: 'tiny',
  modelType: 'llama',
  target: 'ONNX for transformers.js, q4',
  summary: 'gptq (bits 4) on blocks',
  notes: ['A note.'],
  original: { ...measures, tokens: 40, nats: 1, perplexity: estimate },
  compressed: {
    ...measures,
    bytes: 300,
    bitsPerWeight: 4.5,
    tokens: 40,
    nats: 1.1,
    perplexity: estimate,
    perplexityRatio: { value: 1.1, low: 1.05, high: 1.15 },
    kl: { mean: 0.02, median: 0.01, p99: 0.3, low: 0.015, high: 0.025 },
    agreement: { value: 0.95, low: 0.9, high: 0.98 },
  },
  speed: { compressed: { prefillTokensPerSecond: 1000, decodeTokensPerSecond: 100 }, engine: 'ONNX Runtime' },
  files: [
    {
      path: 'onnx/model_q4.onnx',
      type: 'q4',
      bytes: 300,
      checks: [{ engine: 'ONNX Runtime', worst: 0.01, tolerance: 0.3, maxDifference: 0.02 }],
    },
  ],
  tensors: [0, 1].flatMap((layer) =>
    kinds.map((kind, index) => ({
      name: `model.layers.${layer}.${kind}`,
      kind,
      layer,
      shape: [10, 10],
      before: { label: 'float16', bytes: 200 },
      after: { label: '4-bit, group 32', bytes: 60 },
      method: 'gptq',
      error: 0.001 * (1 + layer + index),
      errorOf: 'outputs' as const,
    })),
  ),
  evaluation: {
    data: 'stories.txt',
    sequences: [means, means],
    positions: [{ from: 1, to: 21, ...means, tokens: 40 }],
    divergences: [
      { from: 0, to: 0.01, tokens: 30 },
      { from: 0.01, to: 1, tokens: 10 },
    ],
    changed: [
      {
        sequence: 1,
        position: 7,
        kl: 0.9,
        context: 'Once upon a\ntime',
        target: ' there',
        original: { top: ' there', probability: 0.8, target: 0.8 },
        compressed: { top: '\n', probability: 0.5, target: 0.2 },
      },
    ],
  },
  recipe: { steps: [{ method: 'gptq', bits: 4 }] },
  reproduction: [['command', 'lapidary compress --recipe recipe.yaml']],
  timings: { seconds: { compress: 2.5 }, machine: 'Node 20, 2 cores' },
};
