/** Values whose gradient is given, because it is cheaper than the one that follows from their nodes. */

import type { Value } from '../value.ts';

export interface CustomGradient {
  /** What the value is a function of. */
  readonly inputs: readonly Value[];
  /** From the value's gradient to those of the inputs. */
  readonly rule: (g: Value) => readonly Value[];
}

const customs = new WeakMap<Value, CustomGradient>();

/** The value itself; from here on its nodes are not looked into. */
export function withGradient(value: Value, inputs: readonly Value[], rule: CustomGradient['rule']): Value {
  customs.set(value, { inputs, rule });
  return value;
}

export const customGradient = (value: Value): CustomGradient | undefined => customs.get(value);
