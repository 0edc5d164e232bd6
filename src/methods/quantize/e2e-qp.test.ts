import { beforeAll, describe, expect, it } from 'vitest';
import { tinyLlama } from '../../../test/models/tiny.ts';
import { random } from '../../base/random.ts';
import type { Assignment } from '../../calibrate/targets.ts';
import { walk } from '../../calibrate/walk.ts';
import { encodedBytes } from '../../encodings/encoding.ts';
import type { Model } from '../../models/model.ts';
import { logits } from '../../models/runner.ts';
import { contextOf } from '../../run/context.ts';
import type { Changes } from '../../contract/method.ts';
import { e2eQp } from './e2e-qp.ts';
import { rtn } from './rtn.ts';

const teacher = tinyLlama({ tied: true });
const source = random(3);
const sequences = Array.from({ length: 8 }, () => Int32Array.from({ length: 16 }, () => source.integer(10)));
const context = contextOf(teacher, sequences, { seed: 0, threads: 1 });

/** Mean KL(teacher || model) over all tokens of the sequences, in float64. */
async function divergence(model: Model): Promise<number> {
  const [p, q] = [await logits(teacher, sequences), await logits(model, sequences)];
  const width = p.dims[2];
  let sum = 0;
  for (let at = 0; at < p.data.length; at += width) {
    const row = (data: unknown) => {
      const values = Array.from((data as Float32Array).subarray(at, at + width));
      const total = Math.log(values.reduce((total, value) => total + Math.exp(value), 0));
      return values.map((value) => value - total);
    };
    const [a, b] = [row(p.data), row(q.data)];
    sum += a.reduce((total, value, i) => total + Math.exp(value) * (value - b[i]), 0);
  }
  return (sum * width) / p.data.length;
}

const changed = (model: Model, { matrices, vectors }: Changes): Model => ({
  ...model,
  matrices: new Map([...model.matrices, ...matrices]),
  vectors: new Map([...model.vectors, ...vectors]),
});

describe('training scales end to end', () => {
  let student: Model;
  beforeAll(async () => {
    const options = rtn.options.parse({ bits: 3, group: 16 });
    const assign = ({ place }: { place: string }): Assignment | undefined =>
      place === 'block' ? { method: rtn, options } : undefined;
    student = (await walk(teacher, [], { assign, threads: 1 })).model;
  });

  it('brings the compressed model nearer to the original, in as many bytes', async () => {
    const changes = await e2eQp.train(
      student,
      teacher,
      e2eQp.options.parse({ epochs: 8, rate: 0.01 }),
      context,
    );
    const trained = changed(student, changes);
    expect(await divergence(trained)).toBeLessThan(0.8 * (await divergence(student)));
    for (const [name, encoding] of changes.matrices) {
      const before = student.matrices.get(name)!;
      expect([encodedBytes(encoding), encoding.label]).toEqual([encodedBytes(before), before.label]);
      expect(encoding.tensors.get('codes')!.bytes()).toEqual(before.tensors.get('codes')!.bytes());
      expect(encoding.tensors.get('scales')!.bytes()).not.toEqual(before.tensors.get('scales')!.bytes());
    }
  });

  it('reports the loss that it lowers: the mean divergence over the tokens', async () => {
    const told: string[] = [];
    const options = e2eQp.options.parse({ epochs: 2, rate: 1e-9, batch: 8 });
    await e2eQp.train(student, teacher, options, {
      ...context,
      progress: ({ detail }) => void (detail && told.push(detail)),
    });
    expect(Number(/[\d.e-]+$/.exec(told[0])![0])).toBeCloseTo(await divergence(student), 3);
  });

  it('gives the same for the same seed', async () => {
    const options = e2eQp.options.parse({ epochs: 1, rate: 0.01 });
    const [one, two] = [
      await e2eQp.train(student, teacher, options, context),
      await e2eQp.train(student, teacher, options, context),
    ];
    for (const [name, encoding] of one.matrices)
      expect(two.matrices.get(name)!.dense()).toEqual(encoding.dense());
    for (const [name, vector] of one.vectors) expect(two.vectors.get(name)!.bytes()).toEqual(vector.bytes());
  });
});
