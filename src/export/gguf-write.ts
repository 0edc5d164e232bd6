/** A model as a GGUF file: its matrices in types that ggml has, without loss where they are encoded already. */

import { blocksOf, blockTypes } from '../encodings/blocks/index.ts';
import { writeGguf } from '../io/gguf/write.ts';
import { ggufFileTypes } from '../models/gguf-mixes.ts';
import type { FloatType, GgufContents, GgufOptions } from '../models/gguf-write.ts';
import { ggufOf } from '../models/gguf-write.ts';
import type { Model } from '../models/model.ts';

export interface GgufExportOptions {
  /** general.name. */
  readonly name: string;
  /** Of matrices that are not quantized. */
  readonly floats: FloatType;
  /** What the original says of itself. */
  readonly origin?: GgufOptions['origin'];
  /** What it was quantized by. */
  readonly importance?: GgufOptions['importance'];
  readonly warn?: ((line: string) => void) | undefined;
}

/**
 * The same model in types that ggml has.
 * @throws LapidaryError on an encoding that GGUF has no place for, saying what would fit
 */
export function inBlocks(model: Model): Model {
  const matrices = new Map([...model.matrices].map(([name, encoding]) => [name, blocksOf(encoding)]));
  return { ...model, matrices };
}

/**
 * @param model of encodings that are floats or blocks: see `inBlocks`
 * @throws LapidaryError on a model that llama.cpp has no place for
 */
export async function exportGguf(model: Model, path: string, options: GgufExportOptions): Promise<void> {
  const { metadata, tensors } = contentsOf(model, options);
  await writeGguf(path, metadata, tensors);
}

/** What `exportGguf` writes. @throws LapidaryError as it does */
export const contentsOf = (model: Model, options: GgufExportOptions): GgufContents =>
  ggufOf(model, { ...options, fileType: fileTypeOf(model)?.id });

/** What llama.cpp calls a file. */
export interface FileType {
  readonly name: string;
  /** llama.cpp's number; it has none for some block types. */
  readonly id?: number | undefined;
}

/** By the block type that most weights have; undefined where most are floats. */
export function fileTypeOf({ matrices }: Pick<Model, 'matrices'>): FileType | undefined {
  const weights = new Map<string, number>();
  for (const { label, shape } of matrices.values())
    weights.set(label, (weights.get(label) ?? 0) + shape[0] * shape[1]);
  const [most] = [...weights].toSorted((a, b) => b[1] - a[1])[0] ?? [];
  // Of the mixes of one block type the medium one is what its name alone means.
  const named = Object.entries(ggufFileTypes).filter(([, { type }]) => type === most);
  const [name, found] = named.find(([name]) => name.endsWith('_M')) ?? named[0] ?? [];
  if (name !== undefined && found) return { name, id: found.id };
  return most !== undefined && blockTypes.byName.has(most) ? { name: most } : undefined;
}
