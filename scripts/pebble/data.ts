/**
 * Turns the training text into tokens: every story is BOS + its tokens + EOS, one after the other, as uint16.
 *
 *   npx tsx scripts/pebble/data.ts --text stories.txt.gz --model models/pebble --out tokens.u16
 */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Tokenizer } from '@huggingface/tokenizers';
import { readStories } from './stories.ts';

const { values } = parseArgs({
  options: {
    text: { type: 'string' },
    model: { type: 'string', default: 'models/pebble' },
    out: { type: 'string' },
  },
});
if (!values.text || !values.out) throw new Error('--text FILE and --out FILE are needed');
const read = (name: string) => JSON.parse(readFileSync(join(values.model, name), 'utf8'));
const tokenizer = new Tokenizer(read('tokenizer.json'), read('tokenizer_config.json'));
const eos = tokenizer.token_to_id('</s>')!;
const stories = readStories(values.text);
const documents = stories.map((story) => Uint16Array.from([...tokenizer.encode(story).ids, eos]));
const tokens = new Uint16Array(documents.reduce((sum, document) => sum + document.length, 0));
let at = 0;
for (const document of documents) {
  tokens.set(document, at);
  at += document.length;
}
writeFileSync(values.out, tokens);
console.log(`${stories.length} stories, ${tokens.length} tokens`);
