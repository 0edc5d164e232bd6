/** Where AutoRound starts: the grids and codes of plain rounding, or of GPTQ. */

import { openCollector } from '../../calibrate/statistics.ts';
import type { PackedCodes } from '../../encodings/grouped.ts';
import { groupedPacked, groupsOf } from '../../encodings/grouped.ts';
import { openRunner } from '../../models/runner.ts';
import type { Matrix, Statistic, TrainedBlock } from '../contract.ts';
import type { Start } from './autoround-grid.ts';
import type { AutoRoundOptions } from './autoround.ts';
import { gptq } from './gptq.ts';
import { quantize } from './gptq.ts';
import { roundToNearest } from './rtn.ts';
import { groupLength } from './tiles.ts';

type Found = Pick<Start, 'weight' | 'scales' | 'zeros' | 'offsets'>;

/** Of every matrix of the block, by name. */
export async function startOf(
  block: TrainedBlock,
  choice: AutoRoundOptions,
): Promise<ReadonlyMap<string, Found>> {
  const statistics = choice.start === 'gptq' ? await gramsOf(block) : undefined;
  const found = new Map<string, Found>();
  for (const name of block.names) {
    block.signal?.throwIfAborted();
    const matrix = block.model.matrices.get(name)!;
    const [rows, columns] = matrix.shape;
    const weight = { rows, columns, values: matrix.dense() };
    const gram = statistics?.get(name)?.gram;
    found.set(name, gram ? await compensated(weight, gram, choice) : await nearest(weight, choice));
  }
  return found;
}

async function nearest(weight: Matrix, choice: AutoRoundOptions): Promise<Found> {
  const { scales, zeros } = await roundToNearest(weight, choice);
  return { weight, scales, zeros };
}

async function compensated(weight: Matrix, gram: Float32Array, choice: AutoRoundOptions): Promise<Found> {
  const { bits, group, symmetric, range, scales } = choice;
  const grid = { bits, group, symmetric, range, scales };
  const values = weight.values.slice();
  const codes = await quantize({ ...weight, values }, gram.slice(), gptq.options.parse(grid));
  return { weight, scales: codes.scales, zeros: codes.zeros, offsets: offsetsTo(codes, weight) };
}

/** How near to the edge of a code's cell a weight may start that belongs to another one, in steps. */
const edge = 1e-3;

/**
 * What moves every weight, in steps, just into the cell of its code: those that are in it stay as they are, others start
 * at its edge, from where training finds the way back soon.
 */
function offsetsTo(codes: PackedCodes, { columns, values }: Matrix): Float32Array {
  const { scales } = codes;
  const chosen = groupedPacked(codes).dense();
  const groups = groupsOf(codes);
  const length = groupLength(codes, columns);
  return chosen.map((value, at) => {
    const [row, column] = [Math.floor(at / columns), at % columns];
    const scale = scales[row * groups + Math.floor(column / length)];
    const [code, exact] = [Math.round(value / scale), values[at] / scale];
    return Math.min(Math.max(exact, code - 0.5 + edge), code + 0.5 - edge) - exact;
  });
}

/** Gram matrices of what the layers are fed, all before any of them is compressed. */
async function gramsOf({
  model,
  layer,
  names,
  inputs,
  session,
  signal,
}: TrainedBlock): Promise<ReadonlyMap<string, Statistic>> {
  const collector = openCollector(new Map(names.map((name) => [name, 'gram'])));
  const runner = openRunner(model, { ...session, longest: inputs[0].dims[1] });
  try {
    const stage = await runner.block(layer, { extend: collector.extend, extensionOnly: true });
    for (const x of inputs) {
      signal?.throwIfAborted();
      const [rows, time] = x.dims;
      collector.take(await stage.run({ x, ...collector.feeds() }, collector.outputs), rows * time);
    }
    await stage.release();
    return collector.statistics();
  } finally {
    await runner.release();
  }
}
