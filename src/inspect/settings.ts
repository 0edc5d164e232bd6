/**
 * What a header says of a model's sizes, whatever its architecture: the keys that most of them share, read out of
 * config.json or GGUF metadata. What is not there, or is no number, is not known.
 */

import { isObject } from '../base/json.ts';
import { numberAt, numbersAt, textAt } from '../io/gguf/metadata.ts';
import type { GgufFile } from '../io/gguf/read.ts';
import type { Configuration, LayerPlan } from '../models/model.ts';

export interface Settings {
  /** As the file calls it: "llama", "gemma3", "bert". */
  readonly modelType?: string | undefined;
  /** The class in transformers: "BertModel". */
  readonly architecture?: string | undefined;
  readonly hidden?: number | undefined;
  readonly vocabulary?: number | undefined;
  /** Longest sequence, in tokens. */
  readonly context?: number | undefined;
  readonly tiedHead?: boolean | undefined;
  /** Layers behind which heads of their own stand. */
  readonly exits?: readonly number[] | undefined;
  /** One a layer of the main stack. */
  readonly layers: readonly Partial<LayerPlan>[];
}

type Json = Readonly<Record<string, unknown>>;

/** Of a model that is known here. */
export function settingsOfModel({ json, ...config }: Configuration): Settings {
  const { modelType, hidden, vocabulary, context, tiedHead, exits, layers } = config;
  return { modelType, architecture: className(json), hidden, vocabulary, context, tiedHead, exits, layers };
}

/** @param mostLayers that there can be, as many as there are tensors */
export function settingsOfJson(json: Json, mostLayers: number): Settings {
  // Models that see or hear have the sizes of the part that writes one level down.
  const text: Json = isObject(json.text_config) ? { ...json, ...json.text_config } : json;
  const at = (...keys: string[]) => keys.map((key) => text[key]).find((value) => value !== undefined);
  const number = (...keys: string[]) => whole(at(...keys));
  const layers = number('num_hidden_layers', 'n_layer', 'n_layers', 'num_layers') ?? 0;
  const hidden = number('hidden_size', 'n_embd', 'd_model', 'dim');
  return {
    modelType: typeof json.model_type === 'string' ? json.model_type : undefined,
    architecture: className(json),
    hidden,
    vocabulary: number('vocab_size'),
    context: number('max_position_embeddings', 'n_positions', 'max_sequence_length', 'n_ctx'),
    tiedHead: typeof text.tie_word_embeddings === 'boolean' ? text.tie_word_embeddings : undefined,
    layers: Array.from({ length: Math.min(layers, mostLayers) }, (_, layer) => {
      const own = (...keys: string[]) => whole(ofLayer(at(...keys), layer));
      const heads = own('num_attention_heads', 'n_head', 'num_heads');
      return known({
        heads,
        keyValueHeads: own('num_key_value_heads') ?? heads,
        headSize: own('head_dim') ?? quotient(hidden, heads),
        intermediate: own('intermediate_size', 'n_inner', 'd_ff', 'ffn_dim'),
        window: windowOf(text, layer),
      });
    }),
  };
}

export function settingsOfGguf({ metadata, tensors }: GgufFile): Settings {
  const modelType = textAt(metadata, 'general.architecture');
  const at = (key: string, layer = 0) => {
    const name = `${modelType}.${key}`;
    const isList = metadata.get(name)?.type === 'array';
    return whole(isList ? numbersAt(metadata, name)?.[layer] : numberAt(metadata, name));
  };
  const hidden = at('embedding_length');
  const words = metadata.get('tokenizer.ggml.tokens');
  const rows = tensors.get('token_embd.weight')?.shape[0];
  return {
    modelType,
    hidden,
    vocabulary: rows ?? at('vocab_size') ?? (words?.type === 'array' ? words.values.length : undefined),
    context: at('context_length'),
    tiedHead: rows === undefined ? undefined : !tensors.has('output.weight'),
    layers: Array.from({ length: Math.min(at('block_count') ?? 0, tensors.size) }, (_, layer) => {
      const heads = at('attention.head_count', layer);
      return known({
        heads,
        keyValueHeads: at('attention.head_count_kv', layer) ?? heads,
        headSize: at('attention.key_length', layer) ?? quotient(hidden, heads),
        intermediate: at('feed_forward_length', layer),
      });
    }),
  };
}

const className = ({ architectures }: Json): string | undefined => {
  const [name] = [architectures ?? []].flat();
  return typeof name === 'string' ? name : undefined;
};

/** Where every layer has its own, settings are lists. */
const ofLayer = (value: unknown, layer: number): unknown => (Array.isArray(value) ? value[layer] : value);

const whole = (value: unknown): number | undefined =>
  Number.isSafeInteger(value) && (value as number) >= 0 ? (value as number) : undefined;

const quotient = (a: number | undefined, b: number | undefined): number | undefined =>
  a !== undefined && b ? whole(a / b) : undefined;

function windowOf(
  { sliding_window: size, use_sliding_window: uses, layer_types: types }: Json,
  layer: number,
) {
  if (uses === false || (Array.isArray(types) && types[layer] !== 'sliding_attention')) return undefined;
  return whole(size);
}

/** Without what is not known. */
function known(plan: { readonly [K in keyof LayerPlan]?: number | undefined }): Partial<LayerPlan> {
  return Object.fromEntries(Object.entries(plan).filter(([, value]) => value !== undefined));
}
