/**
 * The library in a few lines: compress the model that ships with the package for transformers.js, look at what was lost, let
 * it write. `model: './my-model'` and `calibration: 'text.jsonl'` make it yours.
 * Run: npx tsx examples/compress.ts [folder to write]
 */

import { compress, generate } from 'lapidary';

const { out, recipe, original, compressed } = await compress({
  bits: 4,
  for: 'transformers.js',
  calibration: { sequences: 16, length: 128 },
  evaluation: { sequences: 8, length: 128 },
  out: process.argv[2] ?? 'pebble-small',
  overwrite: true,
});
console.log(`Chosen: ${recipe.steps.map(({ method }) => method.name).join(', ')} (${recipe.reason})`);
console.log(`${original.bytes} bytes became ${compressed.bytes}`);
console.log(
  `KL divergence ${compressed.kl?.mean.toFixed(5)}, perplexity ${compressed.perplexity?.value.toFixed(3)}`,
);

process.stdout.write('Once upon a time');
for await (const text of generate(out, 'Once upon a time', { maxTokens: 40 })) process.stdout.write(text);
console.log();
