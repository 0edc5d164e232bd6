/**
 * @huggingface/tokenizers and @huggingface/jinja at work, in a process that can be ended (base/guard/child.js). Plain
 * JavaScript, because that process starts from the file itself, in the source tree and in the built package alike.
 */

import { Template } from '@huggingface/jinja';
import { Tokenizer } from '@huggingface/tokenizers';

export const jobs = {
  /**
   * A tokenizer from its two files; answers with its vocabulary: tokens as JSON, which copies faster, and their ids.
   * @param {{ definition: Uint8Array, config: object }} value
   */
  tokenizer({ definition, config }) {
    const engine = new Tokenizer(
      JSON.parse(new TextDecoder().decode(definition).replace(/^\uFEFF/, '')),
      config,
    );
    const vocabulary = [...engine.get_vocab(true)];
    return {
      keep: engine,
      answer: {
        tokens: JSON.stringify(vocabulary.map(([token]) => token)),
        ids: Float64Array.from(vocabulary, ([, id]) => Number(id)),
      },
    };
  },

  /**
   * Ids of each text.
   * @param {{ texts: readonly string[], special: boolean }} value
   * @param {Tokenizer} engine
   */
  encode({ texts, special }, engine) {
    return texts.map((text) => {
      const { ids } = engine.encode(text, { add_special_tokens: special });
      // What is in no vocabulary and has no token for the unknown is dropped, as the original library does.
      const known = ids.filter((/** @type {number | undefined} */ id) => id !== undefined);
      const wrong = known.find(
        (/** @type {number} */ id) => !Number.isInteger(id) || id < 0 || id >= 2 ** 31,
      );
      if (wrong !== undefined) throw new Error(`a token has the id ${String(wrong)}`);
      return Int32Array.from(known);
    });
  },

  /**
   * The text of ids, those that no token has left out.
   * @param {{ ids: readonly number[], skipSpecial: boolean, cleanUp: boolean }} value
   * @param {Tokenizer} engine
   */
  decode({ ids, skipSpecial, cleanUp }, engine) {
    const known = ids.filter((id) => engine.id_to_token(id) !== undefined);
    if (known.length === 0) return '';
    const options = { skip_special_tokens: skipSpecial, clean_up_tokenization_spaces: cleanUp };
    return engine.decode(known, options);
  },

  /** @param {{ source: string }} value */
  template: ({ source }) => ({ keep: new Template(source), answer: undefined }),

  /**
   * A conversation as text.
   * @param {Record<string, unknown>} value names that the template uses
   * @param {Template} template
   */
  render: (value, template) => template.render(value),
};
