/**
 * Stories written by pebble itself: the package's own calibration and evaluation text.
 *
 *   npx tsx scripts/pebble/sample.ts --model models/pebble --out models/pebble/stories.jsonl --count 400 --seed 1
 */

import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { writeText } from '../../src/generate/generate.ts';
import { openCheckpoint } from '../../src/io/checkpoint.ts';
import { loadModel } from '../../src/models/index.ts';
import { loadTokenizer } from '../../src/tokenizer/tokenizer.ts';

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: 'models/pebble' },
    out: { type: 'string', default: 'models/pebble/stories.jsonl' },
    count: { type: 'string', default: '600' },
    temperature: { type: 'string', default: '0.8' },
    seed: { type: 'string', default: '1' },
    threads: { type: 'string', default: '1' },
  },
});
const checkpoint = await openCheckpoint(values.model);
const model = loadModel(checkpoint);
const tokenizer = loadTokenizer(checkpoint.files);
const stories: string[] = [];
for (let i = 0; stories.length < Number(values.count); i++) {
  const { text, finish } = await writeText({ source: model, tokenizer }, '', {
    temperature: Number(values.temperature),
    seed: Number(values.seed) + i,
    maxTokens: model.config.context,
    threads: Number(values.threads),
  });
  // One that fills the context has lost its way.
  if (finish === 'eos' && text.trim().length > 0) stories.push(text.trim());
}
writeFileSync(values.out, stories.map((text) => `${JSON.stringify({ text })}\n`).join(''));
console.log(`${stories.length} stories, ${stories.reduce((sum, story) => sum + story.length, 0)} characters`);
