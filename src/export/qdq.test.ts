import { describe, expect, it } from 'vitest';
import { maxDifference, openGolden, quantized } from '../../test/engines/models.ts';
import { random } from '../base/random.ts';
import { openFile } from '../evaluate/file.ts';
import { Graph } from '../graph/graph.ts';
import { openSession, tensor } from '../graph/session.ts';
import { rtn } from '../methods/quantize/rtn.ts';
import { logits } from '../models/runner.ts';
import { exportGraph } from './graph.ts';
import { asQdq } from './qdq.ts';

const [rows, columns] = [24, 40];
const { normal } = random(5);
const values = Float32Array.from({ length: rows * columns }, normal);

describe('products in operators of ONNX alone', () => {
  const cases = ([2, 3, 4, 8] as const).flatMap((bits) =>
    ([16, -1] as const).flatMap((group) => [true, false].map((symmetric) => ({ bits, group, symmetric }))),
  );
  it.each(cases)('have the values of $bits bits, group $group, symmetric $symmetric', async (choice) => {
    const options = rtn.options.parse(choice);
    const encoding = asQdq(
      await rtn.compress({ rows, columns, values: values.slice() }, { tokens: 0 }, options),
    );
    const graph = new Graph();
    const x = graph.input('x', 'float32', ['n', columns]);
    graph.output(
      'y',
      encoding.multiply(x, (suffix, stored) => graph.weight(suffix, stored)),
    );
    expect(graph.nodes.map(({ op }) => op)).not.toContain('MatMulNBits');
    const session = await openSession(graph);
    // Of the identity, which the engine's rounding of inputs leaves as it is.
    const identity = Float32Array.from({ length: columns ** 2 }, (_, i) => (i % (columns + 1) === 0 ? 1 : 0));
    const { y } = await session.run({ x: tensor('float32', [columns, columns], identity) });
    await session.release();
    const found = y.data as Float32Array;
    const turned = encoding.dense().map((_, i) => found[(i % columns) * rows + Math.floor(i / columns)]);
    expect(maxDifference([...turned], encoding.dense())).toBeLessThan(1e-5);
  });

  it.each([
    { optimize: 'disabled', tolerance: 1e-4, how: 'as they stand' },
    { optimize: 'all', tolerance: 0.1, how: 'fused by the engine, which rounds inputs to eight bits then' },
  ] as const)('make the model, $how', async ({ optimize, tolerance }) => {
    const ids = Int32Array.from({ length: 12 }, (_, i) => 3 + ((i * 37) % 200));
    const model = await quantized(await openGolden('qwen3'), 4, 16, false);
    const runner = await openFile(exportGraph(model, { products: 'qdq' }), { optimize });
    const found = await runner.step(ids, 0, runner.empty(), 0);
    await runner.close();
    const expected = (await logits(model, [ids])).data as Float32Array;
    expect(maxDifference([...(found.logits.data as Float32Array)], expected)).toBeLessThan(tolerance);
  });

  it('leave dense matrices as they are', async () => {
    const [encoding] = (await openGolden('qwen3')).matrices.values();
    expect(asQdq(encoding)).toBe(encoding);
  });
});
