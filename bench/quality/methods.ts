/**
 * The methods side by side on small models, same bytes: one JSON line each, then the README's table.
 * Run: npx tsx bench/quality/methods.ts [bits] [group] [options of gptq as JSON]
 * Calibration: 128 sequences of up to 512 tokens; KL divergence on documents held out of the same text.
 */

import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compress, parseRecipe } from '../../src/index.ts';

const [bits = '4', group = '32', extra = '{}'] = process.argv.slice(2);
const shared = '../shared';
const stories = { data: `${shared}/data/tinystories/tiny.utf8`, separator: '<|endoftext|>' };
const models = [
  { name: 'pebble', text: {} },
  { name: 'stories260K-hf', model: `${shared}/models/stories260K-hf`, text: stories },
];

const scratch = mkdtempSync(join(tmpdir(), 'lapidary-bench-'));
const rows: string[] = [];
for (const { name, model, text } of models) {
  if (model && !existsSync(model)) {
    console.error(`skipped ${name}: ${model} is not here`);
    continue;
  }
  let baseline = 0;
  for (const method of ['rtn', 'gptq']) {
    const options = {
      bits: Number(bits),
      group: Number(group),
      ...(method === 'gptq' ? JSON.parse(extra) : {}),
    };
    const recipe = parseRecipe({
      ...(model ? { model } : {}),
      steps: [
        { method, ...options },
        { method: 'rtn', bits: 8, group: 32, targets: ['embeddings'] },
      ],
      calibration: text,
      evaluation: { sequences: 48 },
      export: { accuracyLevel: 0 },
    });
    const { compressed, seconds } = await compress({ recipe, out: join(scratch, `${name}-${method}`) });
    const kl = compressed.kl!;
    if (method === 'rtn') baseline = kl.mean;
    const ratio = kl.mean / baseline;
    const { bytes, bitsPerWeight, perplexity, agreement } = compressed;
    console.log(
      JSON.stringify({
        bench: 'quality/methods',
        model: name,
        method,
        ...options,
        bytes,
        bitsPerWeight,
        kl,
        ratio,
        perplexity,
        agreement,
        seconds,
      }),
    );
    rows.push(
      `| ${name} | ${method} | ${bytes.toLocaleString('en')} | ${kl.mean.toFixed(5)} [${kl.low!.toFixed(5)}, ${kl.high!.toFixed(5)}] | ${(100 * (ratio - 1)).toFixed(0)}% | ${perplexity!.value.toFixed(3)} | ${(100 * agreement!.value).toFixed(1)}% |`,
    );
  }
}
rmSync(scratch, { recursive: true });
console.log('| model | method | bytes | KL divergence, nats | against rtn | perplexity | same top token |');
console.log('|---|---|---|---|---|---|---|');
console.log(rows.join('\n'));
