/** Operators that read or write at indices. */

import type { IndexingName } from './names.ts';
import type { Value } from '../value.ts';
import { zeros } from './constants.ts';
import type { OpDefinition } from './definition.ts';
import { axisOf, onnx, refuse, required, sameShape, sameType } from './definition.ts';
import {
  gather,
  gatherElements,
  scatterElements,
  scatterND,
  squeeze,
  transpose,
  unsqueeze,
} from './functions.ts';

function integers(op: string, indices: Value, inputs: readonly (Value | undefined)[]): void {
  if (indices.dtype !== 'int64' && indices.dtype !== 'int32') refuse(op, 'indices are not integers', inputs);
}

/** Adds every row of g to the row of data that it was read from; the gathered axis comes first meanwhile. */
function gatherGradient(data: Value, indices: Value, axis: number, g: Value): Value {
  const rank = data.shape.length;
  const others = [...Array(rank).keys()].filter((i) => i !== axis);
  const first = [axis, ...others];
  const span = indices.shape.length;
  const gFirst = [
    ...Array.from({ length: span }, (_, i) => axis + i),
    ...others.map((i) => (i < axis ? i : i - 1 + span)),
  ];
  const empty = zeros(
    data.graph,
    data.dtype,
    first.map((i) => data.shape[i]),
  );
  const added = scatterND(empty, unsqueeze(indices, [span]), transpose(g, gFirst), 'add');
  return transpose(
    added,
    first.map((_, i) => first.indexOf(i)),
  );
}

export const indexing: Record<IndexingName, OpDefinition> = {
  Gather: {
    onnx: onnx('Gather'),
    infer: (inputs, attributes) => {
      const [data, indices] = required('Gather', inputs, 2);
      integers('Gather', indices, inputs);
      const axis = axisOf('Gather', attributes.axis as number, data.shape.length);
      return [
        {
          dtype: data.dtype,
          shape: [...data.shape.slice(0, axis), ...indices.shape, ...data.shape.slice(axis + 1)],
        },
      ];
    },
    gradient: ({ inputs, attributes }, [g]) => {
      const [data, indices] = inputs as readonly Value[];
      const axis = axisOf('Gather', attributes.axis as number, data.shape.length);
      return [g && gatherGradient(data, indices, axis, g)];
    },
  },
  GatherElements: {
    onnx: onnx('GatherElements'),
    infer: (inputs, attributes) => {
      const [data, indices] = required('GatherElements', inputs, 2);
      integers('GatherElements', indices, inputs);
      axisOf('GatherElements', attributes.axis as number, data.shape.length);
      if (indices.shape.length !== data.shape.length) refuse('GatherElements', 'ranks differ', inputs);
      return [{ dtype: data.dtype, shape: indices.shape }];
    },
    gradient: ({ inputs, attributes }, [g]) => {
      const [data, indices] = inputs as readonly Value[];
      const empty = g && zeros(data.graph, data.dtype, data.shape);
      return [empty && scatterElements(empty, indices, g, attributes.axis as number, 'add')];
    },
  },
  ScatterElements: {
    onnx: onnx('ScatterElements'),
    infer: (inputs, attributes) => {
      const [data, indices, updates] = required('ScatterElements', inputs, 3);
      integers('ScatterElements', indices, inputs);
      axisOf('ScatterElements', attributes.axis as number, data.shape.length);
      if (!sameShape(indices.shape, updates.shape))
        refuse('ScatterElements', 'indices and updates differ in shape', inputs);
      return [{ dtype: sameType('ScatterElements', [data, updates]), shape: data.shape }];
    },
    gradient: ({ inputs, attributes }, [g]) => {
      if (!g) return [];
      const [, indices, updates] = inputs as readonly Value[];
      const axis = attributes.axis as number;
      const kept =
        attributes.reduction === 'add'
          ? g
          : scatterElements(g, indices, zeros(g.graph, g.dtype, updates.shape), axis);
      return [kept, undefined, gatherElements(g, indices, axis)];
    },
  },
  ScatterND: {
    onnx: onnx('ScatterND'),
    infer: (inputs) => {
      const [data, indices, updates] = required('ScatterND', inputs, 3);
      if (indices.dtype !== 'int64') refuse('ScatterND', 'indices are not int64', inputs);
      const coordinates = indices.shape.at(-1);
      if (typeof coordinates !== 'number')
        refuse('ScatterND', 'the number of coordinates is not known', inputs);
      const expected = [...indices.shape.slice(0, -1), ...data.shape.slice(coordinates)];
      if (!sameShape(updates.shape, expected)) {
        refuse('ScatterND', 'updates do not fit', inputs, `updates [${expected.join(', ')}]`);
      }
      return [{ dtype: sameType('ScatterND', [data, updates]), shape: data.shape }];
    },
    gradient: ({ inputs, attributes }, [g]) => {
      if (!g) return [];
      const [, indices, updates] = inputs as readonly Value[];
      if (indices.shape.at(-1) !== 1) refuse('gradient of ScatterND', 'more than one coordinate', inputs);
      const rows = squeeze(indices, [-1]);
      const kept =
        attributes.reduction === 'add' ? g : scatterND(g, indices, zeros(g.graph, g.dtype, updates.shape));
      return [kept, undefined, gather(g, rows, 0)];
    },
  },
};
