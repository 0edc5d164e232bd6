/**
 * Two recipes of one's own side by side with the original: a table, and the page that shows where each loses.
 * Run: npx tsx examples/compare.ts [folder to write]
 */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { RecipeStep } from 'lapidary';
import { compare, compress, parseReport, reportPage } from 'lapidary';

const folder = process.argv[2] ?? 'pebble-compared';
const data = fileURLToPath(new URL('../models/pebble/stories.jsonl', import.meta.url));

/** Typed by method: a misspelt name or option does not compile. */
const recipes: Record<string, readonly RecipeStep[]> = {
  nearest: [{ method: 'rtn', bits: 4, group: 32 }],
  compensated: [{ method: 'gptq', bits: 4, group: 32, passes: 2 }],
};

const runs: string[] = [];
for (const [name, steps] of Object.entries(recipes)) {
  const { out } = await compress({
    steps,
    calibration: { sequences: 16, length: 128 },
    evaluation: { sequences: 8, length: 128 },
    out: join(folder, name),
    overwrite: true,
    speed: false,
  });
  runs.push(out);
}

for (const { model, bytes, perplexity, kl } of await compare(['pebble', ...runs], {
  data,
  documents: 8,
  length: 128,
}))
  console.log(
    `${model}: ${bytes} bytes, perplexity ${perplexity.value.toFixed(3)}, KL ${kl?.mean.toFixed(5)}`,
  );

const reports = runs.map((out) => parseReport(readFileSync(join(out, 'report.json'), 'utf8')));
writeFileSync(join(folder, 'report.html'), reportPage(reports));
console.log(`Written: ${join(folder, 'report.html')}`);
