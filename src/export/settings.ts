/**
 * The settings beside the weights, in folders that engines load: config.json, generation_config.json and the
 * tokenizer's files. Engines and their versions look for the same setting in different places, so each is written to all of
 * these. Read for this: transformers 4.57 and 5.24, transformers.js 4.3.1, mlx-lm 0.32.2, onnxruntime-genai 0.18.
 */

import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { writeFileAtomic } from '../io/output.ts';
import type { Configuration, Model } from '../models/model.ts';
import { hasRopes, ropeSettings, ropesOf } from '../models/rope.ts';
import { namedTemplates, readJson, specialNames, templateText } from '../tokenizer/tokenizer.ts';

type Json = Readonly<Record<string, unknown>>;

/**
 * Writes all of them, and what else travels with the model.
 * @param own what the format adds to config.json
 */
export function writeSettings(model: Model, folder: string, own: Json): void {
  const { files } = model;
  const written = new Map(files);
  // What says the same already travels as it is.
  const put = (name: string, value: Json) => {
    if (!isDeepStrictEqual(value, readJson(files, name))) written.set(name, () => encoded(value));
  };
  put('config.json', { ...configJson(model), ...own });
  const generation = generationJson(model);
  if (Object.keys(generation).length > 0) put('generation_config.json', generation);
  if (files.has('tokenizer.json')) put('tokenizer_config.json', tokenizerJson(model));
  for (const [name, read] of written) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileAtomic(join(folder, name), read());
  }
}

const encoded = (value: Json): Uint8Array => Buffer.from(`${JSON.stringify(value, null, 2)}\n`);

/**
 * config.json as engines of all versions read it: transformers 5 reads "rope_parameters" and "dtype", those before it and
 * mlx-lm "rope_theta", "rope_scaling" and "torch_dtype".
 */
function configJson({ architecture, config }: Model): Json {
  const { json, tiedHead, layers } = config;
  const [rope, ...others] = ropesOf(layers);
  const dtype = json.dtype ?? json.torch_dtype;
  return {
    ...json,
    architectures: [architecture.classes.causal],
    // Where layers differ the words are those of their architecture.
    ...(rope && others.length === 0 && !hasRopes(json) && ropeSettings(rope, json)),
    ...(typeof dtype === 'string' && { dtype, torch_dtype: dtype }),
    tie_word_embeddings: tiedHead,
    ...tokenIds(config, json),
  };
}

/** What the source says of generation, and the tokens that it leaves to config.json. */
function generationJson({ config, files }: Model): Json {
  const own = readJson(files, 'generation_config.json') ?? {};
  return { ...own, ...tokenIds(config, own) };
}

/** Under the names of both files; null where the source says something that the model has no row for. */
function tokenIds({ bos, eos, pad }: Configuration, source: Json): Json {
  const ids = { bos_token_id: bos, eos_token_id: eos.length > 1 ? eos : eos[0], pad_token_id: pad };
  const known = Object.entries(ids).filter(([key, id]) => id !== undefined || key in source);
  return Object.fromEntries(known.map(([key, id]) => [key, id ?? null]));
}

/**
 * transformers.js reads this file alone: special tokens and the chat template are brought into it from the others. Names
 * of transformers 5 are written as those before it know them, which 5 reads, too.
 */
function tokenizerJson({ config, files }: Model): Json {
  const own = readJson(files, 'tokenizer_config.json') ?? {
    tokenizer_class: 'PreTrainedTokenizerFast',
    model_max_length: config.context,
  };
  const map = readJson(files, 'special_tokens_map.json') ?? {};
  const special = specialNames.filter((name) => !(name in own) && name in map);
  const { extra_special_tokens: extra, ...rest } = own;
  return {
    ...rest,
    ...Object.fromEntries(special.map((name) => [name, map[name]])),
    // A list under this name ends transformers 4.
    ...(extra !== undefined && {
      [Array.isArray(extra) ? 'additional_special_tokens' : 'extra_special_tokens']: extra,
    }),
    ...(own.tokenizer_class === 'TokenizersBackend' && { tokenizer_class: 'PreTrainedTokenizerFast' }),
    ...templates(files, own),
  };
}

/** The template of the model's other files; in a list of templates it is the one called "default". */
function templates(files: Model['files'], own: Json): Json {
  const text = templateText(files, own);
  if (text === undefined) return {};
  const others = [...namedTemplates(files, own)].map(([name, template]) => ({ name, template }));
  if (others.length === 0 && !Array.isArray(own.chat_template)) return { chat_template: text };
  return { chat_template: [{ name: 'default', template: text }, ...others] };
}
