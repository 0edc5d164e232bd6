/**
 * @huggingface/transformers, where test/engines/install.js has put it. It is no dependency of the project, so its
 * types are written here as far as the tests use them.
 */

import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Where the engines' files are, for a browser to fetch. */
export const engines = join(dirname(fileURLToPath(import.meta.url)), 'node_modules');

export interface EngineTensor {
  readonly dims: readonly number[];
  readonly type: string;
  readonly data: Float32Array | BigInt64Array | Uint16Array;
  tolist(): unknown;
}

export interface CausalModel {
  readonly sessions: Readonly<
    Record<string, { readonly inputNames: readonly string[]; readonly config: { readonly dtype: string } }>
  >;
  (inputs: Readonly<Record<string, EngineTensor>>): Promise<Readonly<Record<string, EngineTensor>>>;
  generate(options: Readonly<Record<string, unknown>>): Promise<EngineTensor>;
  dispose(): Promise<unknown>;
}

export interface EngineTokenizer {
  (
    text: string | readonly string[],
    options?: Readonly<Record<string, unknown>>,
  ): Readonly<Record<string, EngineTensor>>;
  decode(ids: readonly (number | bigint)[], options?: Readonly<Record<string, unknown>>): string;
  apply_chat_template(messages: readonly object[], options: Readonly<Record<string, unknown>>): unknown;
}

export interface Transformers {
  readonly env: { version: string; allowRemoteModels: boolean };
  readonly Tensor: new (type: string, data: unknown, dims: readonly number[]) => EngineTensor;
  readonly AutoModelForCausalLM: {
    from_pretrained(folder: string, options?: Readonly<Record<string, unknown>>): Promise<CausalModel>;
  };
  readonly AutoTokenizer: { from_pretrained(folder: string): Promise<EngineTokenizer> };
  readonly pipeline: (
    task: 'text-generation',
    folder: string,
    options?: Readonly<Record<string, unknown>>,
  ) => Promise<
    (prompt: string, options?: Readonly<Record<string, unknown>>) => Promise<{ generated_text: string }[]>
  >;
}

/** Undefined where the engines are not installed. */
export const transformers = existsSync(join(engines, '.installed')) ? await load() : undefined;

async function load(): Promise<Transformers> {
  const name = '@huggingface/transformers';
  const loaded = (await import(/* @vite-ignore */ name)) as Transformers;
  loaded.env.allowRemoteModels = false;
  return loaded;
}
