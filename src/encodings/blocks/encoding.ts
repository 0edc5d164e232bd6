/**
 * A matrix stored in blocks of ggml. ONNX has no operator for them: in a graph they are grouped integers, without loss
 * (to-groups.ts).
 */

import { LapidaryError } from '../../base/errors.ts';
import type { Stored } from '../../base/tensor.ts';
import { stored } from '../../base/tensor.ts';
import { decodedProduct } from '../dense.ts';
import type { Encoding, EncodingAtRest } from '../encoding.ts';
import { blockTypeNamed } from './table.ts';
import { inGroups } from './to-groups.ts';

type Shape = readonly [rows: number, columns: number];

/**
 * @param type by its name: "Q4_K"
 * @param blocks uint8, row after row; read each time the values are asked for
 * @throws LapidaryError on a type that is none of ours, and bytes that are not as many as the shape takes
 */
export function blockEncoding({ name }: { readonly name: string }, shape: Shape, blocks: Stored): Encoding {
  const type = blockTypeNamed(name);
  const [rows, columns] = shape;
  const expected = (rows * columns * type.bytes) / type.size;
  if (columns % type.size !== 0 || blocks.byteLength !== expected) {
    throw new LapidaryError({
      what: `these are not the blocks of a ${name} matrix`,
      where: `matrix [${rows}, ${columns}]`,
      expected: `rows of whole blocks of ${type.size} weights, ${expected} bytes`,
      found: `${blocks.byteLength} bytes`,
    });
  }
  const values = () => type.dequantize(blocks.bytes());
  let form: Encoding | undefined;
  const inGraph = () => (form ??= inGroups(encoding));
  const encoding: Encoding = {
    description: { kind: 'blocks', type: name },
    label: name,
    shape,
    bits: Math.ceil(Math.log2(type.levels.length)),
    tensors: new Map([['blocks', blocks]]),
    dense: values,
    multiply: (x, place, options) =>
      x.graph.weightsAs === 'inputs'
        ? decodedProduct(x, place, encoding)
        : inGraph().multiply(x, place, options),
    gather: (ids, place, dtype) => inGraph().gather(ids, place, dtype),
  };
  return encoding;
}

/** A matrix of blocks from what it is at rest. @throws LapidaryError as `blockEncoding` does */
export function restoreBlocks({ description, shape, tensors }: EncodingAtRest): Encoding {
  const blocks = tensors.get('blocks');
  if (tensors.size !== 1 || blocks?.dtype !== 'uint8') {
    const found = [...tensors].map(([suffix, { dtype }]) => `${suffix}, ${dtype}`).join('; ');
    throw new LapidaryError({ what: 'this is not a matrix of blocks', expected: 'blocks, uint8', found });
  }
  return blockEncoding({ name: String(description.type) }, shape, blocks);
}

/**
 * Quantizes a matrix as ggml does.
 * @param importance how much the squared error of each column counts, [columns]
 * @throws LapidaryError where rows are no whole blocks of the type
 */
export async function quantizeTo(
  { name }: { readonly name: string },
  {
    rows,
    columns,
    values,
  }: { readonly rows: number; readonly columns: number; readonly values: Float32Array },
  importance?: Float32Array,
): Promise<Encoding> {
  const bytes = await blockTypeNamed(name).quantizeFast(values, columns, importance);
  return blockEncoding({ name }, [rows, columns], stored('uint8', [rows, bytes.length / rows], bytes));
}
