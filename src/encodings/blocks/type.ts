/**
 * Rows of blocks, which is what readers and writers of GGUF files need, and the parts of quantizing apart (parameters,
 * rounding, packing) for methods that choose codes themselves, such as GPTQ.
 */

import { LapidaryError } from '../../base/errors.ts';
import { ggmlType } from '../../base/ggml.ts';
import { clamp, nearestInteger } from './arithmetic.ts';
import type { BlockCodec, Numbers } from './codec.ts';
import { searchRows } from './parallel.ts';
import type { Found } from './search.ts';
import { searchBlock, spreadOf } from './search.ts';

const { fround } = Math;

export interface BlockType {
  /** As GGUF files number and ggml names it. */
  readonly id: number;
  readonly name: string;
  /** Weights and bytes of a block. */
  readonly size: number;
  readonly bytes: number;
  /** Weights that share a scale and a minimum; a divisor of `size`. */
  readonly part: number;
  /** w = scale * levels[code] - minimum. */
  readonly levels: Float32Array;
  /** Whether the type has minima; else they are all 0. */
  readonly minima: boolean;
  /** @throws LapidaryError where the bytes are no whole blocks. */
  dequantize(bytes: Uint8Array): Float32Array;
  /**
   * Bit for bit what ggml's ggml_quantize_chunk gives.
   * @param values rows of `columns`, a multiple of `size`
   * @param importance how much the squared error of each column counts, [columns]; Q8_0, TQ1_0, TQ2_0 and MXFP4 have
   *   no use for it
   */
  quantize(values: Float32Array, columns: number, importance?: Float32Array): Uint8Array;
  /** The same in the kernels, on all threads. */
  quantizeFast(
    values: Float32Array,
    columns: number,
    importance?: Float32Array,
    threads?: number,
  ): Promise<Uint8Array>;

  /** The parameters that `quantize` would choose, for codes to be chosen by the caller. */
  fitBlocks(values: Float32Array, columns: number, importance?: Float32Array): BlockParameters;
  /** The code nearest to a value in a part with this scale and minimum, as they are stored. */
  round(value: number, scale: number, minimum: number): number;
  /** @param codes one a weight; @returns the blocks of `parameters` with these codes */
  pack(codes: Uint8Array, parameters: Pick<BlockParameters, 'blocks'>): Uint8Array;
  /** Where scales and minima are whole numbers times units of their block. */
  readonly numbers?: Numbers | undefined;
  /**
   * @param parameters their scales and minima such as the type can hold, with the units that the blocks have
   * @returns the blocks with these codes, scales and minima
   * @throws LapidaryError where levels are not evenly spaced
   */
  assemble(codes: Uint8Array, parameters: BlockParameters): Uint8Array;
  /** The parameters and the codes in blocks; the bytes are kept, not copied. */
  unpack(bytes: Uint8Array): { readonly parameters: BlockParameters; readonly codes: Uint8Array };
}

export interface BlockParameters {
  /** Whole blocks; what codes they hold does not matter. */
  readonly blocks: Uint8Array;
  /** Of each part, as dequantizing will use them. */
  readonly scales: Float32Array;
  readonly minima: Float32Array;
}

export function blockType(codec: BlockCodec): BlockType {
  const { id, weights: size, bytes } = ggmlType(codec.name);
  const { name, part, levels } = codec;
  const parts = size / part;
  const even = levels.every((level, code) => level === levels[0] + code);

  function blocksIn(stored: Uint8Array): number {
    if (stored.length % bytes !== 0) {
      throw new LapidaryError({
        what: `these are no whole blocks of ${name}`,
        expected: `a multiple of ${bytes} bytes`,
        found: `${stored.length}`,
      });
    }
    return stored.length / bytes;
  }

  function eachBlock(stored: Uint8Array, use: (block: Uint8Array, index: number) => void): void {
    const count = blocksIn(stored);
    for (let b = 0; b < count; b++) use(stored.subarray(b * bytes, (b + 1) * bytes), b);
  }

  function parametersOf(blocks: Uint8Array): BlockParameters {
    const count = blocksIn(blocks) * parts;
    const [scales, minima] = [new Float32Array(count), new Float32Array(count)];
    eachBlock(blocks, (block, b) => {
      const [from, to] = [b * parts, (b + 1) * parts];
      codec.parameters(block, scales.subarray(from, to), minima.subarray(from, to));
    });
    return { blocks, scales, minima };
  }

  function codesOf(blocks: Uint8Array): Uint8Array {
    const codes = new Uint8Array(blocksIn(blocks) * size);
    eachBlock(blocks, (block, b) => codec.unpack(block, codes.subarray(b * size, (b + 1) * size)));
    return codes;
  }

  function dequantize(stored: Uint8Array): Float32Array {
    const { scales, minima } = parametersOf(stored);
    const codes = codesOf(stored);
    const values = new Float32Array(codes.length);
    for (let p = 0, i = 0; p < scales.length; p++) {
      for (const end = i + part; i < end; i++) {
        values[i] = fround(scales[p] * levels[codes[i]]) - minima[p];
      }
    }
    return values;
  }

  function quantize(values: Float32Array, columns: number, importance?: Float32Array): Uint8Array {
    refuseShape(values, columns, importance);
    const stored = new Uint8Array((values.length / size) * bytes);
    const search = codec.search?.(importance !== undefined);
    let rowSpread = 0;
    eachBlock(stored, (block, b) => {
      const from = b * size;
      const source = values.subarray(from, from + size);
      if (!search) return codec.encode(source, block);
      const column = from % columns;
      const perRow = search.spread?.of === 'row';
      if (perRow && column === 0) rowSpread = spreadOf(values.subarray(from, from + columns), search);
      const spread = perRow ? rowSpread : spreadOf(source, search);
      const weighting = { importance: importance?.subarray(column, column + size), spread };
      codec.encode(source, block, searchBlock(search, source, part, weighting), importance !== undefined);
    });
    return stored;
  }

  async function quantizeFast(
    values: Float32Array,
    columns: number,
    importance?: Float32Array,
    threads?: number,
  ): Promise<Uint8Array> {
    const weighted = importance !== undefined;
    const search = codec.search?.(weighted);
    if (!search) return quantize(values, columns, importance);
    refuseShape(values, columns, importance);
    const stored = new Uint8Array((values.length / size) * bytes);
    const use = (from: number, x: Float32Array, found: Found) => {
      const at = (from / size) * bytes;
      const target = stored.subarray(at, at + (x.length / size) * bytes);
      eachBlock(target, (block, b) => {
        const [start, p] = [b * size, b * parts];
        codec.encode(
          x.subarray(start, start + size),
          block,
          {
            scales: found.scales.subarray(p, p + parts),
            minima: found.minima.subarray(p, p + parts),
            totals: found.totals.subarray(p, p + parts),
            codes: found.codes.subarray(start, start + size),
          },
          weighted,
        );
      });
    };
    await searchRows(search, { values, columns, importance, part, size }, use, threads);
    return stored;
  }

  function refuseShape(values: Float32Array, columns: number, importance: Float32Array | undefined): void {
    const where = `${values.length} values in rows of ${columns}`;
    if (!(columns > 0) || columns % size !== 0 || values.length % columns !== 0) {
      const expected = `whole rows, each a multiple of ${size}`;
      throw new LapidaryError({ what: `rows that ${name} cannot hold`, where, expected, found: where });
    }
    if (importance && importance.length !== columns) {
      const [expected, found] = [`${columns} values`, `${importance.length}`];
      throw new LapidaryError({ what: 'importance that does not fit the rows', where, expected, found });
    }
  }

  function round(value: number, scale: number, minimum: number): number {
    if (scale === 0) return Math.max(0, levels.indexOf(0));
    const level = fround(fround(value + minimum) / scale);
    if (even) return clamp(nearestInteger(level) - levels[0], 0, levels.length - 1);
    let best = 0;
    for (let code = 1; code < levels.length; code++) {
      if (Math.abs(levels[code] - level) < Math.abs(levels[best] - level)) best = code;
    }
    return best;
  }

  function pack(codes: Uint8Array, { blocks }: Pick<BlockParameters, 'blocks'>): Uint8Array {
    const stored = blocks.slice();
    eachBlock(stored, (block, b) => codec.pack(codes.subarray(b * size, (b + 1) * size), block));
    return stored;
  }

  function assemble(codes: Uint8Array, { blocks, scales, minima }: BlockParameters): Uint8Array {
    const stored = pack(codes, { blocks });
    const { store } = codec;
    if (!store) throw new LapidaryError({ what: `the levels of ${name} are not evenly spaced` });
    eachBlock(stored, (block, b) => {
      const [from, to] = [b * parts, (b + 1) * parts];
      store(block, scales.subarray(from, to), minima.subarray(from, to));
    });
    return stored;
  }

  return {
    id,
    name,
    size,
    bytes,
    part,
    levels,
    minima: codec.minima,
    dequantize,
    quantize,
    quantizeFast,
    fitBlocks: (values, columns, importance) => parametersOf(quantize(values, columns, importance)),
    round,
    pack,
    numbers: codec.numbers,
    assemble,
    unpack: (blocks) => ({ parameters: parametersOf(blocks), codes: codesOf(blocks) }),
  };
}
