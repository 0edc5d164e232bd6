/**
 * A matrix that is rounded inside a graph, with what moves its rounding as parameters: an offset V of every weight, in
 * steps of the grid, and factors alpha and beta of the two ends of every group's range (SignRound, arXiv:2309.05516):
 *   W' = s (clip(round(W / s + V) + z, 0, top) - z),   s = (alpha high + beta low) / top,   z = round(beta low / s).
 * Rounding passes gradients on as if it were not there. `low` and `high` are of the grid that plain rounding takes, where
 * the authors' are the least and the greatest weight.
 */

import { stored } from '../../base/tensor.ts';
import { denseValues } from '../../encodings/dense.ts';
import type { Encoding, Place } from '../../encodings/encoding.ts';
import { scaleDigits } from '../../encodings/grid.ts';
import { grouped, groupsOf } from '../../encodings/grouped.ts';
import type { Graph, Value } from '../../graph/graph.ts';
import {
  add,
  cast,
  div,
  equal,
  floor,
  fusedMatmul,
  less,
  max,
  min,
  mul,
  neg,
  reciprocal,
  reduceSum,
  reshape,
  scalar,
  scale,
  slice,
  sub,
  where,
} from '../../graph/ops.ts';
import { withGradient } from '../../graph/ops/custom.ts';
import type { Tensor } from '../../graph/session.ts';
import { tensor } from '../../graph/session.ts';
import type { Matrix } from '../contract.ts';
import type { GridChoice } from './tiles.ts';
import { groupLength } from './tiles.ts';

export interface Start {
  readonly weight: Matrix;
  readonly choice: GridChoice;
  /** [rows, groups]. */
  readonly scales: Float32Array;
  /** [rows, groups]; without them the middle code. */
  readonly zeros?: Uint8Array | undefined;
  /** Whether the ends of the ranges move, too. */
  readonly minmax: boolean;
}

export interface RoundedMatrix {
  /** What its parameters start from, by their names in graphs. */
  readonly parameters: Readonly<Record<string, Tensor>>;
  /** Which of them is the offsets. */
  readonly offset: string;
  /** Multiplies by W', in graphs that take the parameters as inputs; all else is the weight's. */
  readonly encoding: Encoding;
  /** Adds outputs that `collect` makes an encoding of, to a graph that has none of it yet. */
  readonly addCodes: (graph: Graph) => void;
  readonly collect: (outputs: Readonly<Record<string, Tensor>>) => Encoding;
}

/** @param name unique in the graphs that it will be in */
export function roundedMatrix(name: string, start: Start): RoundedMatrix {
  const { rows, columns, values } = start.weight;
  const { bits, group, symmetric } = start.choice;
  const layout = layoutOf(start);
  const dense = denseValues(values, rows, columns);
  const output = (part: string) => `codes/${name}/${part}`;
  return {
    parameters: parametersOf(name, start, layout),
    offset: offsetName(name),
    encoding: {
      ...dense,
      multiply(x, place) {
        const { code, step, inside, ratio } = codesIn(x.graph, name, start, place);
        const rounded = mul(code, step.value);
        const inputs = [ratio.offset, step.value, step.zero];
        const passed = withGradient(rounded, inputs, (g) => {
          const within = mul(g, cast(inside, 'float32'));
          const toStep = sub(mul(g, code), mul(within, ratio.exact));
          const toZero = neg(mul(step.value, groupSum(sub(g, within))));
          // The offset's lacks the factor s: signs are all that is read of it.
          return [within, groupSum(toStep), toZero];
        });
        const padded = reshape(passed, [rows, layout.groups * layout.length]);
        const weight = layout.padding === 0 ? padded : slice(padded, 1, 0, columns);
        return fusedMatmul(x, weight, { transB: true });
      },
    },
    addCodes(graph) {
      const place: Place = (suffix, tensor) => graph.weight(`${name}.${suffix}`, tensor);
      const { code, step } = codesIn(graph, name, start, place);
      graph.output(output('codes'), cast(add(code, step.zero), 'uint8'));
      graph.output(output('scales'), add(step.value, scalar(graph, 0)));
      graph.output(output('zeros'), cast(step.zero, 'uint8'));
    },
    collect(outputs) {
      const data = (part: string) => outputs[output(part)].data;
      const codes = cropped(data('codes') as Uint8Array, layout.groups * layout.length, columns);
      const scales = data('scales') as Float32Array;
      const zeros = symmetric ? undefined : (data('zeros') as Uint8Array);
      return grouped({ rows, columns, bits, group, codes, scales, zeros });
    },
  };
}

interface Layout {
  readonly groups: number;
  readonly length: number;
  /** Columns of the last group that the matrix does not have. */
  readonly padding: number;
}

function layoutOf({ weight: { columns }, choice }: Start): Layout {
  const groups = groupsOf({ columns, group: choice.group });
  const length = groupLength(choice, columns);
  return { groups, length, padding: groups * length - columns };
}

const offsetName = (name: string) => `${name}/offset`;
const endName = (name: string, end: 'low' | 'high') => `${name}/${end}`;
/** A middle that does not move leaves one factor for both ends. */
const endsOf = ({ minmax, choice }: Start): readonly ('low' | 'high')[] => {
  if (!minmax) return [];
  return choice.symmetric ? ['high'] : ['low', 'high'];
};

function parametersOf(name: string, start: Start, { groups, length }: Layout): Record<string, Tensor> {
  const { rows } = start.weight;
  // No offset is 0.5: the half that makes rounding of floor is among them, which saves a pass over the weights.
  const offsets = new Float32Array(rows * groups * length).fill(0.5);
  const ones = () => tensor('float32', [rows, groups, 1], new Float32Array(rows * groups).fill(1));
  return {
    [offsetName(name)]: tensor('float32', [rows, groups, length], offsets),
    ...Object.fromEntries(endsOf(start).map((end) => [endName(name, end), ones()])),
  };
}

/** The codes of a matrix, less their groups' zero points, and what they are made of. */
interface Codes {
  /** Float32 [rows, groups, length]. */
  readonly code: Value;
  /** Whether rounding led to the code, and not an end of the range. */
  readonly inside: Value;
  readonly ratio: { readonly exact: Value; readonly offset: Value };
  readonly step: Step;
}

function codesIn(graph: Graph, name: string, start: Start, place: Place): Codes {
  const { weight, choice } = start;
  const { groups, length } = layoutOf(start);
  const shape = [weight.rows, groups, length];
  const values = padded(weight.values, weight.columns, groups * length);
  const top = scalar(graph, 2 ** choice.bits - 1);
  const step = stepIn(graph, name, start, place);
  const exact = mul(place('values', stored('float32', shape, values)), reciprocal(step.value));
  const offset = graph.input(offsetName(name), 'float32', shape);
  const free = floor(add(exact, offset));
  const code = min(max(free, neg(step.zero)), sub(top, step.zero));
  return { code, inside: equal(free, code), ratio: { exact, offset }, step };
}

/** Of every group, [rows, groups, 1]. */
interface Step {
  readonly value: Value;
  readonly zero: Value;
}

function stepIn(graph: Graph, name: string, start: Start, place: Place): Step {
  const { choice, minmax, scales, zeros } = start;
  const shape = [start.weight.rows, layoutOf(start).groups, 1];
  const top = 2 ** choice.bits - 1;
  const zeroOf = (g: number) => zeros?.[g] ?? 2 ** (choice.bits - 1);
  const constant = (suffix: string, of: (g: number) => number) =>
    place(
      suffix,
      stored(
        'float32',
        shape,
        Float32Array.from(scales, (_, g) => of(g)),
      ),
    );
  const factor = (end: 'low' | 'high') => graph.input(endName(name, end), 'float32', shape);
  if (!minmax) return { value: constant('step', (g) => scales[g]), zero: constant('zero', zeroOf) };
  if (choice.symmetric) {
    const value = representable(
      mul(
        constant('step', (g) => scales[g]),
        factor('high'),
      ),
      choice,
    );
    return { value, zero: constant('zero', zeroOf) };
  }
  const low = mul(
    constant('low', (g) => scales[g] * zeroOf(g)),
    factor('low'),
  );
  const high = mul(
    constant('high', (g) => scales[g] * (top - zeroOf(g))),
    factor('high'),
  );
  const value = representable(scale(add(low, high), 1 / top), choice);
  const ratio = div(low, value);
  const nearest = floor(add(ratio, scalar(graph, 0.5)));
  const clipped = min(max(nearest, scalar(graph, 0)), scalar(graph, top));
  return { value, zero: withGradient(clipped, [ratio], (g) => [g]) };
}

/**
 * The nearest number that scales are stored as, in operators that every device has: s (2^k + 1) less what it is larger
 * than s by keeps the upper 24 - k digits of s (Dekker 1971). Float16's small numbers have one distance, that of
 * float32's from 0.5 on.
 */
function representable(exact: Value, choice: GridChoice): Value {
  const digits = scaleDigits(choice);
  const number = (value: number) => scalar(exact.graph, value);
  const positive = max(exact, number(2 ** -24));
  if (digits === 24) return withGradient(positive, [exact], (g) => [g]);
  const large = mul(positive, number(2 ** (24 - digits) + 1));
  const cut = sub(large, sub(large, positive));
  const even = max(sub(add(positive, number(0.5)), number(0.5)), number(2 ** -24));
  const rounded = where(less(positive, number(2 ** -14)), even, cut);
  return withGradient(rounded, [exact], (g) => [g]);
}

const groupSum = (x: Value): Value => reduceSum(x, [2], true);

/** [rows, columns] with zeros behind each row. */
function padded(values: Float32Array, columns: number, width: number): Float32Array {
  if (width === columns) return values;
  const rows = values.length / columns;
  const wide = new Float32Array(rows * width);
  for (let row = 0; row < rows; row++)
    wide.set(values.subarray(row * columns, (row + 1) * columns), row * width);
  return wide;
}

function cropped(codes: Uint8Array, width: number, columns: number): Uint8Array {
  if (width === columns) return codes;
  const rows = codes.length / width;
  const narrow = new Uint8Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    narrow.set(codes.subarray(row * width, row * width + columns), row * columns);
  }
  return narrow;
}
