/**
 * Learns pebble's tokenizer and writes the files that transformers, transformers.js and Lapidary load.
 *
 *   npx tsx scripts/pebble/tokenizer.ts --text stories.txt.gz --out models/pebble [--vocabulary 2048]
 */

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type BytePairs, learnBytePairs } from './bpe.ts';
import { readStories } from './stories.ts';

const special = ['<pad>', '<s>', '</s>'];

function tokenizerJson({ tokens, merges }: BytePairs): object {
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: special.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: {
      type: 'TemplateProcessing',
      single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
      pair: [
        { SpecialToken: { id: '<s>', type_id: 0 } },
        { Sequence: { id: 'A', type_id: 0 } },
        { SpecialToken: { id: '<s>', type_id: 1 } },
        { Sequence: { id: 'B', type_id: 1 } },
      ],
      special_tokens: { '<s>': { id: '<s>', ids: [special.indexOf('<s>')], tokens: ['<s>'] } },
    },
    decoder: byteLevel,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: merges.map((pair) => pair.join(' ')),
    },
  };
}

const { values } = parseArgs({
  options: {
    text: { type: 'string' },
    out: { type: 'string', default: 'models/pebble' },
    vocabulary: { type: 'string', default: '2048' },
    context: { type: 'string', default: '512' },
  },
});
if (!values.text) throw new Error('--text FILE is needed');
const pairs = learnBytePairs(readStories(values.text).join('\n'), special, Number(values.vocabulary));
mkdirSync(values.out, { recursive: true });
writeFileSync(join(values.out, 'tokenizer.json'), `${JSON.stringify(tokenizerJson(pairs), null, 1)}\n`);
const config = {
  tokenizer_class: 'PreTrainedTokenizerFast',
  bos_token: '<s>',
  eos_token: '</s>',
  pad_token: '<pad>',
  clean_up_tokenization_spaces: false,
  model_max_length: Number(values.context),
};
writeFileSync(join(values.out, 'tokenizer_config.json'), `${JSON.stringify(config, null, 2)}\n`);
console.log(`${pairs.tokens.length} tokens, ${pairs.merges.length} merges`);
