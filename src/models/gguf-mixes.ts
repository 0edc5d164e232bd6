/**
 * The file types of llama.cpp: each names a block type for most matrices and another for those that suffer more. The
 * choices are those of llama.cpp's own quantizer (src/llama-quant.cpp, build b6900 and later), for dense models.
 */

import { ggufFamilies } from './gguf-names.ts';
import type { Configuration } from './model.ts';

export interface FileType {
  /** Of most matrices. */
  readonly type: string;
  /** general.file_type. */
  readonly id: number;
}

/** By the name that llama.cpp gives them. */
export const ggufFileTypes: Readonly<Record<string, FileType>> = {
  Q4_0: { type: 'Q4_0', id: 2 },
  Q4_1: { type: 'Q4_1', id: 3 },
  Q8_0: { type: 'Q8_0', id: 7 },
  Q5_0: { type: 'Q5_0', id: 8 },
  Q5_1: { type: 'Q5_1', id: 9 },
  Q2_K: { type: 'Q2_K', id: 10 },
  Q3_K_S: { type: 'Q3_K', id: 11 },
  Q3_K_M: { type: 'Q3_K', id: 12 },
  Q3_K_L: { type: 'Q3_K', id: 13 },
  Q4_K_S: { type: 'Q4_K', id: 14 },
  Q4_K_M: { type: 'Q4_K', id: 15 },
  Q5_K_S: { type: 'Q5_K', id: 16 },
  Q5_K_M: { type: 'Q5_K', id: 17 },
  Q6_K: { type: 'Q6_K', id: 18 },
  IQ4_NL: { type: 'IQ4_NL', id: 25 },
  IQ4_XS: { type: 'IQ4_XS', id: 30 },
  TQ1_0: { type: 'TQ1_0', id: 36 },
  TQ2_0: { type: 'TQ2_0', id: 37 },
};

/** What a choice depends on besides the file type. */
interface Facts {
  readonly layer: number;
  readonly layers: number;
  /** Query heads to a key/value head. */
  readonly sharing: number;
  /** Whether importance is known. */
  readonly weighted: boolean;
}

/**
 * @param fileType a key of `ggufFileTypes`
 * @param name of a matrix: "model.layers.3.mlp.down_proj"
 * @param weighted whether quantizing knows which columns matter; llama.cpp then chooses otherwise here and there
 * @returns a block type, whether or not the matrix's rows are whole blocks of it
 */
export function typeInMix(fileType: string, name: string, config: Configuration, weighted: boolean): string {
  const { type } = ggufFileTypes[fileType]!;
  const gguf = ggufFamilies.find(({ modelType }) => modelType === config.modelType)?.theirs(name);
  if (gguf === undefined) return type;
  if (gguf === 'output' || (gguf === 'token_embd' && config.tiedHead))
    return type === 'Q8_0' ? 'Q8_0' : 'Q6_K';
  // Ternary types are for weights that were trained so; tables are not.
  if (gguf === 'token_embd') return type.startsWith('TQ') ? 'Q4_K' : type;
  const [, layer, part] = /^blk\.(\d+)\.(.+)$/.exec(gguf) ?? [];
  const choose = part === undefined ? undefined : exceptions[part];
  if (!choose) return type;
  const { heads, keyValueHeads } = config.layers[0];
  const facts = {
    layer: Number(layer),
    layers: config.layers.length,
    sharing: heads / keyValueHeads,
    weighted,
  };
  return choose(fileType, facts) ?? type;
}

type Choice = (fileType: string, facts: Facts) => string | undefined;

const value: Choice = (fileType, facts) => {
  const { layer, layers, sharing } = facts;
  const chosen = {
    Q2_K: sharing >= 4 ? 'Q4_K' : 'Q3_K',
    Q3_K_M: layer < 2 ? 'Q5_K' : 'Q4_K',
    Q3_K_L: 'Q5_K',
    Q4_K_S: layer < 4 ? 'Q5_K' : undefined,
    Q4_K_M: deservesMore(facts) ? 'Q6_K' : undefined,
    Q5_K_M: deservesMore(facts) ? 'Q6_K' : undefined,
    IQ4_NL: sharing >= 4 ? 'Q5_K' : undefined,
    IQ4_XS: sharing >= 4 ? 'Q5_K' : undefined,
  }[fileType];
  // Models of 70 billion parameters share a value head between eight: more bits cost next to nothing.
  const large = layers === 80 && sharing > 1;
  const type = chosen ?? ggufFileTypes[fileType]!.type;
  return large && (type === 'Q3_K' || type === 'Q4_K') ? 'Q5_K' : chosen;
};

const down: Choice = (fileType, facts) => {
  const { layer, layers, weighted } = facts;
  const early = layer < Math.floor(layers / 8);
  return {
    Q2_K: 'Q3_K',
    Q3_K_M: layer < Math.floor(layers / 16) ? 'Q5_K' : 'Q4_K',
    Q3_K_L: 'Q5_K',
    Q4_K_S: early ? 'Q5_K' : undefined,
    Q4_K_M: deservesMore(facts) ? 'Q6_K' : undefined,
    Q5_K_M: deservesMore(facts) ? 'Q6_K' : undefined,
    IQ4_NL: early && !weighted ? 'Q5_K' : undefined,
    IQ4_XS: early && !weighted ? 'Q5_K' : undefined,
    Q4_0: early && weighted ? 'Q4_1' : undefined,
    Q5_0: early && weighted ? 'Q5_1' : undefined,
  }[fileType];
};

const output: Choice = (fileType) => ({ Q2_K: 'Q3_K', Q3_K_M: 'Q4_K', Q3_K_L: 'Q5_K' })[fileType];

/** By what GGUF calls the part of a layer. */
const exceptions: Readonly<Record<string, Choice>> = {
  attn_v: value,
  attn_qkv: value,
  ffn_down: down,
  attn_output: output,
};

/** The first and the last eighth of the layers, and every third between. */
function deservesMore({ layer, layers }: Facts): boolean {
  const eighth = Math.floor(layers / 8);
  return layer < eighth || layer >= Math.floor((7 * layers) / 8) || (layer - eighth) % 3 === 2;
}
