/** What a GGUF file says of itself: typed values, so that what was read can be written again as it was. */

export type GgufNumber = 'uint8' | 'int8' | 'uint16' | 'int16' | 'uint32' | 'int32' | 'float32' | 'float64';
export type GgufLong = 'uint64' | 'int64';
export type GgufElement = GgufNumber | GgufLong | 'bool' | 'string';

export type GgufArray =
  | { readonly type: 'array'; readonly of: GgufNumber; readonly values: ArrayLike<number> }
  | { readonly type: 'array'; readonly of: GgufLong; readonly values: ArrayLike<bigint> }
  | { readonly type: 'array'; readonly of: 'bool'; readonly values: readonly boolean[] }
  | { readonly type: 'array'; readonly of: 'string'; readonly values: readonly string[] };

export type GgufValue =
  | { readonly type: GgufNumber; readonly value: number }
  | { readonly type: GgufLong; readonly value: bigint }
  | { readonly type: 'bool'; readonly value: boolean }
  | { readonly type: 'string'; readonly value: string }
  | GgufArray;

export type GgufMetadata = ReadonlyMap<string, GgufValue>;

/** The numbers that the format gives the types; 9 is an array. */
export const elementIds: Readonly<Record<GgufElement, number>> = {
  uint8: 0,
  int8: 1,
  uint16: 2,
  int16: 3,
  uint32: 4,
  int32: 5,
  float32: 6,
  bool: 7,
  string: 8,
  uint64: 10,
  int64: 11,
  float64: 12,
};

export const arrayId = 9;

/** Bytes of one; of a string its length alone. */
export const elementBytes: Readonly<Record<GgufElement, number>> = {
  uint8: 1,
  int8: 1,
  uint16: 2,
  int16: 2,
  uint32: 4,
  int32: 4,
  float32: 4,
  bool: 1,
  string: 8,
  uint64: 8,
  int64: 8,
  float64: 8,
};

/** Longest name of a tensor, in bytes, its closing zero included: llama.cpp loads no longer one. */
export const maxNameBytes = 64;

/** Where tensors begin, unless general.alignment says otherwise. */
export const defaultAlignment = 32;

export function aligned(offset: number, alignment: number): number {
  return Math.ceil(offset / alignment) * alignment;
}
