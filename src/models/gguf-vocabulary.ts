/** The vocabulary that a GGUF's metadata holds. */

import { flagAt, numberAt, numbersAt, textAt, textsAt } from '../io/gguf/metadata.ts';
import type { GgufMetadata } from '../io/gguf/types.ts';
import type { GgufVocabulary } from '../tokenizer/gguf.ts';

/** Undefined where the file has none. */
export function vocabularyOf(metadata: GgufMetadata): GgufVocabulary | undefined {
  const key = (name: string) => `tokenizer.ggml.${name}`;
  const model = textAt(metadata, key('model'));
  const tokens = textsAt(metadata, key('tokens'));
  if (model === undefined || tokens === undefined || model === 'no_vocab') return undefined;
  const id = (name: string) => numberAt(metadata, key(`${name}_token_id`));
  return {
    model,
    tokens,
    pre: textAt(metadata, key('pre')),
    types: numbersAt(metadata, key('token_type')),
    scores: numbersAt(metadata, key('scores')),
    merges: textsAt(metadata, key('merges')),
    bos: id('bos'),
    eos: id('eos'),
    endOfTurn: id('eot'),
    endOfMessage: id('eom'),
    unknown: id('unknown'),
    padding: id('padding'),
    addBos: flagAt(metadata, key('add_bos_token')),
    addSpacePrefix: flagAt(metadata, key('add_space_prefix')),
    chatTemplate: textAt(metadata, 'tokenizer.chat_template'),
    namedTemplates: new Map(
      (textsAt(metadata, 'tokenizer.chat_templates') ?? []).flatMap((name): [string, string][] => {
        const template = textAt(metadata, `tokenizer.chat_template.${name}`);
        return template === undefined ? [] : [[name, template]];
      }),
    ),
  };
}
