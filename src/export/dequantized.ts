/**
 * Products with weights that are restored once, when a file is loaded: the engine works out what hangs on nothing but
 * weights, and keeps that instead. For engines without a product for codes: onnxruntime-web's WebAssembly restores those
 * of MatMulNBits in every run, 14 to 20 times slower than float32 (docs/benchmarks.md). DequantizeLinear it restores once
 * only where the session option session.disable_quant_qdq says so; plain operators always.
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
