/** Where AutoRound starts: the grids and codes of plain rounding, or of GPTQ. */

import type { TrainedBlock } from '../contract.ts';
import type { Start } from './autoround-grid.ts';
import type { AutoRoundOptions } from './autoround.ts';
import { roundToNearest } from './rtn.ts';

export async function startOf(
  { model, names }: TrainedBlock,
  choice: AutoRoundOptions,
): Promise<ReadonlyMap<string, Omit<Start, 'choice' | 'minmax'>>> {
  const found = new Map<string, Omit<Start, 'choice' | 'minmax'>>();
  for (const name of names) {
    const matrix = model.matrices.get(name)!;
    const [rows, columns] = matrix.shape;
    const weight = { rows, columns, values: matrix.dense() };
    const { scales, zeros } = await roundToNearest(weight, choice);
    found.set(name, { weight, scales, zeros });
  }
  return found;
}
