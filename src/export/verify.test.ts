import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openGolden, quantized } from '../../test/engines/models.ts';
import { ExitCode } from '../base/errors.ts';
import { denseValues } from '../encodings/dense.ts';
import type { Model } from '../models/model.ts';
import type { ExportOptions } from './graph.ts';
import { exportTransformers } from './transformers.ts';
import { verifyExport } from './verify.ts';

const ids = Array.from({ length: 16 }, (_, i) => 3 + ((i * 53) % 200));

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'lapidary-verify-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Writes one model and verifies it as another. */
function check(written: Model, inMemory: Model, options: ExportOptions = {}) {
  const [file] = exportTransformers(written, folder, { files: [options] });
  return verifyExport(join(folder, file.path), inMemory, ids, options);
}

function changed(model: Model, value: (old: number) => number): Model {
  const name = 'model.layers.1.mlp.up_proj';
  const encoding = model.matrices.get(name)!;
  const values = encoding.dense();
  values[5] = value(values[5]);
  return { ...model, matrices: new Map([...model.matrices, [name, denseValues(values, ...encoding.shape)]]) };
}

describe('a written file', () => {
  it.each([
    { bits: 4, activations: 'float32', accuracyLevel: 0, within: 1e-5 },
    { bits: 2, activations: 'float32', accuracyLevel: 0, within: 1e-3 },
    { bits: 8, activations: 'float32', accuracyLevel: 0, within: 1e-3 },
    { bits: 4, activations: 'float16', accuracyLevel: 0, within: 0.01 },
    { bits: 4, activations: 'float32', accuracyLevel: 4, within: 0.1 },
  ] as const)(
    '$bits bits in $activations at level $accuracyLevel is what was in memory',
    async ({ bits, within, ...options }) => {
      const model = await quantized(await openGolden('llama-tied-llama3rope'), bits);
      const { worst, maxDifference, spread, tolerance, tokens } = await check(model, model, options);
      expect(worst).toBeLessThan(within);
      expect(maxDifference / spread).toBeGreaterThanOrEqual(worst);
      expect(tolerance).toBeGreaterThan(within);
      expect(tokens).toBe(16);
    },
  );

  it('with one other weight is refused with both numbers', async () => {
    const model = await openGolden('llama');
    const failed = check(
      changed(model, (old) => old + 1),
      model,
    );
    await expect(failed).rejects.toMatchObject({ exitCode: ExitCode.verification });
    await expect(failed).rejects.toThrow(
      /expected: .* at most 0\.001 of their spread, 0\.\d+\n {2}found: 0\.\d+ of it, 0\.\d+ at most/,
    );
  });

  it('that gives NaN is refused', async () => {
    const broken = changed(await openGolden('llama'), () => Number.NaN);
    await expect(check(broken, broken)).rejects.toThrow('a logit is not finite');
  });
});
