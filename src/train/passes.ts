/**
 * Forward and backward through a whole model, block by block: the hidden states between blocks are kept, each block is
 * computed again for its gradient. The loss is the mean of KL(teacher || student) over all tokens.
 */

import type { Value } from '../graph/graph.ts';
import { gradient } from '../graph/gradient.ts';
import { exp, logSoftmax, mul, reduceSum, sub } from '../graph/ops.ts';
import type { SessionOptions, Tensor } from '../graph/session.ts';
import { tensor } from '../graph/session.ts';
import type { Model } from '../models/model.ts';
import { embedded, forward } from '../models/hidden.ts';
import type { Part, Stage } from '../models/runner.ts';
import { idsTensor, openRunner } from '../models/runner.ts';

/** What is trained of a model. */
export interface Student {
  readonly model: Model;
  /** By the name of the graph's weight, without a layer's prefix left out: "model.layers.0.mlp.up_proj.scales". */
  readonly parameters: ReadonlyMap<string, Float32Array>;
}

export interface Passes {
  /**
   * @param ids int64 [rows, time]
   * @param aims what the teacher's head is fed, [1, time, hidden] for each row: see `lastHidden`
   */
  run(
    ids: Tensor,
    aims: readonly Tensor[],
  ): Promise<{ readonly loss: number; readonly gradients: ReadonlyMap<string, Float32Array> }>;
  release(): Promise<void>;
}

interface Step {
  readonly stage: Stage;
  /** The parameter of each gradient that it gives. */
  readonly parameters: readonly string[];
}

export async function openPasses(
  student: Student,
  teacher: Model,
  options: Pick<SessionOptions, 'device' | 'threads'> & { readonly longest: number },
): Promise<Passes> {
  const { model } = student;
  const [runner, teaching] = [openRunner(model, options), openRunner(teacher, options)];
  const layers = [...model.config.layers.keys()];
  const embed = await runner.embed();
  const forwards: Stage[] = [];
  const backwards: Step[] = [];
  for (const layer of layers) {
    forwards.push(await runner.block(layer));
    const prefix = `${model.architecture.layerName(layer)}.`;
    backwards.push(
      await openStep(
        student,
        prefix,
        (extend) => runner.block(layer, { extend, extensionOnly: true }),
        carried,
      ),
    );
  }
  const head = await openStep(
    student,
    '',
    (extend) => runner.head({ extend, extensionOnly: true }),
    divergence,
  );
  const teacherHead = await teaching.head();
  return {
    async run(ids, aims) {
      const gradients = new Map<string, Float32Array>();
      const states = [(await embed.run({ ids })).hidden];
      for (const stage of forwards) states.push((await stage.run({ x: states.at(-1)! })).hidden);
      const [rows, time, hidden] = states.at(-1)!.dims;
      const last = states.at(-1)!.data as Float32Array;
      const back = new Float32Array(last.length);
      let loss = 0;
      for (const [row, aim] of aims.entries()) {
        const part = { start: row * time * hidden, end: (row + 1) * time * hidden };
        const { logits } = await teacherHead.run({ x: aim });
        const x = tensor('float32', [1, time, hidden], last.subarray(part.start, part.end));
        const found = await backward(head, { x, teacher: logits, share: one(1 / (rows * time)) }, gradients);
        loss += Number(found.loss.data[0]);
        back.set(found.dx.data as Float32Array, part.start);
      }
      let flow = tensor('float32', [rows, time, hidden], back);
      for (const layer of layers.toReversed())
        flow = (await backward(backwards[layer], { x: states[layer], dy: flow }, gradients)).dx;
      return { loss, gradients };
    },
    async release() {
      await runner.release();
      await teaching.release();
    },
  };
}

const one = (value: number): Tensor => tensor('float32', [1], Float32Array.of(value));

/** Adds the gradients that the step gives to those that are there. */
async function backward(
  { stage, parameters }: Step,
  feeds: Readonly<Record<string, Tensor>>,
  gradients: Map<string, Float32Array>,
): Promise<Record<string, Tensor>> {
  const outputs = await stage.run(feeds);
  for (const [index, name] of parameters.entries()) {
    const values = outputs[`gradient.${index}`].data as Float32Array;
    const sum = gradients.get(name);
    if (sum) for (let i = 0; i < sum.length; i++) sum[i] += values[i];
    else gradients.set(name, values);
  }
  return outputs;
}

/** The gradient of a scalar of a part by its input and by all of the student's parameters in it. */
async function openStep(
  { parameters }: Student,
  prefix: string,
  open: (extend: (part: Part) => void) => Promise<Stage>,
  scalarOf: (part: Part) => Value,
): Promise<Step> {
  const names: string[] = [];
  const stage = await open((part) => {
    const loss = scalarOf(part);
    const trained = [...part.graph.weights].filter(([name]) => parameters.has(prefix + name));
    const [dx, ...rest] = gradient(loss, [part.input, ...trained.map(([, { value }]) => value)]);
    part.graph.output('loss', loss);
    part.graph.output('dx', dx);
    for (const [index, value] of rest.entries()) part.graph.output(`gradient.${index}`, value);
    names.push(...trained.map(([name]) => prefix + name));
  });
  return { stage, parameters: names };
}

/** Of a block: outputs times what flows back into them. */
function carried({ graph, output }: Part): Value {
  const dy = graph.input('dy', 'float32', output.shape);
  return reduceSum(mul(output, dy), [0, 1, 2]);
}

/** Of the head: the share of each token in sum p (log p - log q). */
function divergence({ graph, output }: Part): Value {
  const teacher = logSoftmax(graph.input('teacher', 'float32', output.shape));
  const share = graph.input('share', 'float32', [1]);
  const kl = reduceSum(mul(exp(teacher), sub(teacher, logSoftmax(output))), [0, 1, 2]);
  return reduceSum(mul(kl, share), [0]);
}

/** What the model's head is fed, [1, time, hidden] for each sequence. */
export async function lastHidden(
  model: Model,
  sequences: readonly Int32Array[],
  session: Pick<SessionOptions, 'device' | 'threads'>,
  signal: AbortSignal | undefined,
): Promise<readonly Tensor[]> {
  const runner = openRunner(model, { ...session, longest: sequences[0].length });
  try {
    const { vocabulary, hidden: width, layers } = model.config;
    const ids = sequences.map((sequence) => idsTensor([sequence], vocabulary));
    const hidden = await embedded(await runner.embed(), ids, width, signal);
    for (const layer of layers.keys()) await forward(await runner.block(layer), hidden, signal);
    return hidden;
  } finally {
    await runner.release();
  }
}
