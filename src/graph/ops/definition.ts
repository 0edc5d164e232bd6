/**
 * What an operator is, and the shape arithmetic that their rules share. A size that is known only when the graph
 * runs is a name; sums and products of names are written out ("past+time", "8*batch").
 */

import { LapidaryError } from '../../base/errors.ts';
import type { DType } from '../../base/tensor.ts';
import type { Attributes, Dim, Node, Shape, TypedShape, Value } from '../value.ts';

export type Inputs = readonly (Value | undefined)[];

/** Adds the nodes of a gradient: one for each input, undefined where nothing flows back (indices, shapes). */
export type GradientRule = (
  node: Node,
  outputGradients: readonly (Value | undefined)[],
) => readonly (Value | undefined)[];

export interface OpDefinition {
  readonly onnx: { readonly domain: '' | 'com.microsoft'; readonly type: string };
  /**
   * Types and shapes of the outputs; throws LapidaryError on inputs that the operator does not take.
   * @param declared the shape that the caller says the output has, for operators whose shape is data.
   */
  readonly infer: (inputs: Inputs, attributes: Attributes, declared?: Shape) => readonly TypedShape[];
  /** Attributes that only the shape rule reads; they are not written. */
  readonly hints?: readonly string[];
  /** Index of the first output that need not be asked for. */
  readonly optionalFrom?: number;
  /** The rule, or the reason why there is none. */
  readonly gradient: GradientRule | string;
}

export const onnx = (type: string) => ({ domain: '', type }) as const;
export const microsoft = (type: string) => ({ domain: 'com.microsoft', type }) as const;

/** A value for error messages: "float32 [2, time]". */
export function show(value: { readonly dtype: DType; readonly shape: Shape }): string {
  return `${value.dtype} [${value.shape.join(', ')}]`;
}

/** The inputs up to the last required one, or an error that names the operator. */
export function required(op: string, inputs: Inputs, count: number): readonly Value[] {
  for (let i = 0; i < count; i++) {
    if (!inputs[i]) throw new LapidaryError({ what: `${op} needs input ${i}`, expected: `${count} inputs` });
  }
  return inputs as readonly Value[];
}

/** @throws LapidaryError that names the operator and lists its inputs */
export function refuse(op: string, what: string, inputs: Inputs, expected?: string): never {
  const found = inputs.map((input) => (input ? `${input.name}: ${show(input)}` : 'none')).join('; ');
  throw new LapidaryError({ what: `${op}: ${what}`, found, expected });
}

/** The type that all inputs given have. @throws LapidaryError where they differ */
export function sameType(op: string, inputs: Inputs): DType {
  const present = inputs.filter((input) => input !== undefined);
  if (present.some((input) => input.dtype !== present[0].dtype)) refuse(op, 'inputs differ in type', inputs);
  return present[0].dtype;
}

/** Index of an axis counted from either end. */
export function axisOf(op: string, axis: number, rank: number): number {
  const index = axis < 0 ? axis + rank : axis;
  if (!Number.isInteger(index) || index < 0 || index >= rank) {
    throw new LapidaryError({ what: `${op}: no axis ${axis}`, expected: `-${rank} to ${rank - 1}` });
  }
  return index;
}

/** The shape that broadcasting gives (NumPy's rules); names broadcast with themselves and with 1. */
export function broadcast(op: string, ...shapes: readonly Shape[]): Shape {
  const rank = Math.max(...shapes.map((shape) => shape.length));
  return Array.from({ length: rank }, (_, i) => {
    let size: Dim = 1;
    for (const shape of shapes) {
      const other = shape[i - rank + shape.length] ?? 1;
      if (other === 1 || other === size) continue;
      if (size !== 1) {
        throw new LapidaryError({
          what: `${op}: shapes do not broadcast`,
          found: shapes.map((each) => `[${each.join(', ')}]`).join(' and '),
        });
      }
      size = other;
    }
    return size;
  });
}

export const sameShape = (a: Shape, b: Shape): boolean =>
  a.length === b.length && a.every((dim, i) => dim === b[i]);

/** a + b; written out where one of them is a name. */
export function sum(a: Dim, b: Dim): Dim {
  if (typeof a === 'number' && typeof b === 'number') return a + b;
  if (a === 0) return b;
  return b === 0 ? a : `${a}+${b}`;
}

/** Known factor and names of a product of sizes. */
function factors(dims: Shape): { readonly known: number; readonly names: string[] } {
  let known = 1;
  const names: string[] = [];
  for (const dim of dims) {
    if (typeof dim === 'number') known *= dim;
    else {
      for (const part of /[()]/.test(dim) ? [dim] : dim.split('*')) {
        if (/^\d+$/.test(part)) known *= Number(part);
        else names.push(part);
      }
    }
  }
  return { known, names: names.sort() };
}

/** The product of sizes: known factors multiplied, then names in order ("8*batch"). */
export function product(dims: Shape): Dim {
  const { known, names } = factors(dims);
  if (names.length === 0 || known === 0) return known;
  const wrapped =
    names.length > 1 || known > 1
      ? names.map((name) => (/^[^()]*\+/.test(name) ? `(${name})` : name))
      : names;
  return [...(known === 1 ? [] : [String(known)]), ...wrapped].join('*');
}

/** product(whole) / product(parts), or undefined where the names do not cancel. Throws where it is no integer. */
export function quotient(op: string, whole: Shape, parts: Shape): Dim | undefined {
  const above = factors(whole);
  const below = factors(parts);
  const names = [...above.names];
  for (const name of below.names) {
    const at = names.indexOf(name);
    if (at < 0) return undefined;
    names.splice(at, 1);
  }
  const known = below.known === 0 ? 0 : above.known / below.known;
  if (!Number.isInteger(known)) {
    if (names.length > 0) return undefined;
    throw new LapidaryError({ what: `${op}: [${whole.join(', ')}] is not divided by [${parts.join(', ')}]` });
  }
  return product([known, ...names]);
}

/** The integers of a constant input, or undefined where it is known only at run time. */
export function constantInts(value: Value | undefined): readonly number[] | undefined {
  const tensor = value?.graph.initializers.get(value.name);
  if (tensor?.dtype !== 'int64') return undefined;
  const bytes = tensor.bytes();
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: bytes.byteLength / 8 }, (_, i) => Number(view.getBigInt64(8 * i, true)));
}
