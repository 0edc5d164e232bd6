/** Reads "architectures" in config.json, since the same body is also saved as a classifier, an embedder or a reward model. */

import { LapidaryError } from '../base/errors.ts';
import type { Architecture } from './model.ts';
import type { Json } from './settings.ts';

/**
 * @returns a line where it is not the class itself, but can be taken for it
 * @throws LapidaryError on what is no causal language model, by its name
 */
export function checkClass(
  source: string,
  json: Json,
  { classes, modelType }: Architecture,
): string | undefined {
  const names = [json.architectures ?? []].flat().map(String);
  if (names.length === 0 || names.includes(classes.causal)) return undefined;
  if (names.includes(classes.base))
    return `${source} is a bare ${classes.base}: its head is taken to be that of ${classes.causal}`;
  if (names.some((name) => /(ForCausalLM|LMHeadModel)$/.test(name)))
    return `${source} is a ${names.join(', ')}: it is computed as ${classes.causal}`;
  throw new LapidaryError({
    what: `${names.join(', ')} is no causal language model`,
    where: `${source}, config.json, "architectures"`,
    expected: `${classes.causal}, for "model_type": "${modelType}"`,
    found: names.join(', '),
    fix: 'Lapidary compresses models that write text, and would leave out the head of this one; give the language model that it was made from',
  });
}

/** For who gave a model of another architecture. */
export function unknownFix({ architectures }: Json): string {
  const names = [architectures ?? []].flat().map(String);
  const writes = names.length === 0 || names.some((name) => /(ForCausalLM|LMHeadModel)$/.test(name));
  return writes
    ? 'give a model of one of these architectures; `lapidary inspect` lists the tensors of any'
    : `${names.join(', ')} is no causal language model, which is all that is compressed here; \`lapidary inspect\` lists the tensors of any`;
}
