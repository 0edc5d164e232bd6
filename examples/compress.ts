/**
 * The library in a few lines: compress the model that ships with the package, look at what was lost, let it write.
 * Run: npx tsx examples/compress.ts [folder to write]
 */

import { compress, generate, parseRecipe } from 'lapidary';

const recipe = parseRecipe({
  steps: [
    { method: 'gptq', bits: 4, group: 32 },
    { method: 'rtn', bits: 8, group: 32, targets: ['embeddings'] },
  ],
  calibration: { sequences: 16, length: 128 },
  evaluation: { sequences: 8, length: 128 },
});

const report = await compress({ recipe, out: process.argv[2] ?? 'pebble-small', overwrite: true });
const { original, compressed } = report;
console.log(`${original.bytes} bytes became ${compressed.bytes}`);
console.log(
  `KL divergence ${compressed.kl?.mean.toFixed(5)}, perplexity ${compressed.perplexity?.value.toFixed(3)}`,
);

const { text } = await generate(report.out, 'Once upon a time', { maxTokens: 40 });
console.log(`Once upon a time${text}`);
