/** The tokenizer and the texts of a model whose vocabulary a step has changed: all ids are others then. */

import type { Model } from '../models/model.ts';
import type { OpenedCheckpoint } from '../open.ts';
import type { Recipe } from '../recipe/recipe.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { loadTokenizer, withinRows } from '../tokenizer/tokenizer.ts';
import type { Texts, TextWork } from './texts.ts';
import { readTexts } from './texts.ts';

/** Whether ids mean the same in both: one tokenizer, as many rows. */
export const sameWords = (a: Model, b: Model): boolean =>
  a.config.vocabulary === b.config.vocabulary &&
  a.files.get('tokenizer.json') === b.files.get('tokenizer.json');

export interface Words {
  readonly tokenizer: Tokenizer;
  readonly texts: Texts;
}

/**
 * Texts are read again, by the model's own tokenizer, when a model has other words than the last that was asked about.
 * @param texts of the original
 */
export function openWords(
  recipe: Recipe,
  original: OpenedCheckpoint,
  texts: Texts,
  work: TextWork,
): { of(model: Model): Promise<Words> } {
  let [last, known]: [Model, Words] = [original.model, { tokenizer: original.tokenizer, texts }];
  return {
    async of(model) {
      if (sameWords(last, model)) return known;
      const tokenizer = withinRows(loadTokenizer(model.files), model.config.vocabulary);
      // What is to be said of the text is said already.
      const read = await readTexts(recipe, { ...original, model, tokenizer }, () => {}, work);
      [last, known] = [model, { tokenizer, texts: read }];
      return known;
    },
  };
}
