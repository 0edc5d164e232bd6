/**
 * Products whose weights are restored to floats once, when a file is loaded: an engine computes what depends on weights alone and
 * keeps the result. This is for engines without a product with codes. onnxruntime-web's WebAssembly restores the weights of
 * MatMulNBits in every run, which is 14 to 20 times slower than float32 (docs/benchmarks.md); those of DequantizeLinear it
 * restores once only with the session option session.disable_quant_qdq, and those of plain operators always.
 */

import type { Encoding } from '../encodings/encoding.ts';
import { fusedMatmul, range } from '../graph/ops.ts';

/** The same matrix with such products; those that round their inputs stay as they are, and so do dense ones. */
export function asDequantized(encoding: Encoding): Encoding {
  if (encoding.bits >= 16 || encoding.inputBits !== undefined) return encoding;
  const [rows] = encoding.shape;
  return {
    ...encoding,
    multiply: (x, place) =>
      fusedMatmul(x, encoding.gather(range(x.graph, rows), place, x.dtype), { transB: true }),
  };
}
