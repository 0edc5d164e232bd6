/** What all formats of quantized safetensors have in common: a folder that is written, opened again and compared. */

import { LapidaryError } from '../base/errors.ts';
import type { Target } from '../calibrate/targets.ts';
import { targetsOf } from '../calibrate/targets.ts';
import { dense, lazyValues } from '../encodings/dense.ts';
import type { Encoding } from '../encodings/encoding.ts';
import { floatNames } from '../export/safetensors/floats.ts';
import type { CheckpointLayout, FloatName } from '../export/safetensors/folder.ts';
import { checkpointBytes, writeCheckpoint } from '../export/safetensors/folder.ts';
import { verifyCheckpoint } from '../export/safetensors/verify.ts';
import type { Model } from '../models/model.ts';
import { openForCompression } from '../open.ts';
import type { Recipe } from '../recipe/recipe.ts';
import { checkSteps, misfitting } from './check.ts';
import type { Format } from './format.ts';
import { checkMatrix } from './holds.ts';

/** What one of them is. */
export interface CheckpointKind extends Pick<
  Format,
  | 'label'
  | 'engines'
  | 'alsoRunBy'
  | 'recommend'
  | 'grids'
  | 'keepsTables'
  | 'fitting'
  | 'storedBits'
  | 'withoutWindows'
  | 'card'
> {
  /** As recipes name it. */
  readonly name: Recipe['export']['format'];
  /** See `Fitting`. */
  readonly fused?: boolean | undefined;
  /**
   * Before the work, with a few rows as each matrix will be: see `checkSteps`.
   * @throws LapidaryError on what it does not hold, saying what would fit
   */
  fits(encoding: Encoding, target: Target): void;
  /** Of what fits: @throws LapidaryError on scales that it would round */
  exact(encoding: Encoding, floats: FloatName): void;
  /**
   * Before the work too, with the original.
   * @param floats of what is not quantized
   * @throws LapidaryError on a model that its engines do not read
   */
  layout(model: Model, floats: FloatName): CheckpointLayout;
  /** Told to readers of the report: what an engine does not take, of what the format holds. */
  notes?(model: Model, floats: FloatName): readonly string[];
}

const floatsOf = ({ export: { floats } }: Recipe): FloatName => floatNames[floats];

export function safetensorsFormat(kind: CheckpointKind): Format {
  const {
    label,
    engines,
    alsoRunBy,
    recommend,
    grids,
    keepsTables,
    fitting,
    storedBits,
    withoutWindows,
    card,
  } = kind;
  const fits: CheckpointKind['fits'] = (encoding, target) => {
    checkMatrix(kind.name, encoding, label);
    if (keepsTables && target.place !== 'block') throw keptTable(label);
    kind.fits(encoding, target);
  };
  const holds: Format['holds'] = (encoding, target, recipe) => {
    if (encoding.bits >= 16) return;
    fits(encoding, target);
    kind.exact(encoding, floatsOf(recipe));
  };
  /** With floats in place of what was quantized before, and is no recipe's: tables, and what it has no place for. */
  const storable = (model: Model): Model => {
    const floats = targetsOf(model).flatMap((target): [string, Encoding][] => {
      const encoding = model.matrices.get(target.name)!;
      if (encoding.bits >= 16 || isHeld(() => fits(encoding, target))) return [];
      return [[target.name, dense(lazyValues(encoding.shape, () => encoding.dense()))]];
    });
    return { ...model, matrices: new Map([...model.matrices, ...floats]) };
  };
  const matrices = { fits, holds, fused: kind.fused };
  return {
    label,
    engines,
    floats: ({ floats }) => floatNames[floats],
    alsoRunBy,
    recommend,
    grids,
    keepsTables,
    fitting,
    withoutWindows,
    storedBits,
    card,
    async check(recipe, original) {
      kind.layout(storable(original.model), floatsOf(recipe));
      await checkSteps(recipe, original, matrices);
    },
    spared: (recipe, original) => misfitting(recipe, original, matrices),
    holds,
    size(outline, recipe) {
      const floats = floatsOf(recipe);
      const model = storable(outline);
      return checkpointBytes(model, kind.layout(model, floats), floats);
    },
    async write({ recipe, original, compressed: made, tokenizer, folder, progress, texts, note }) {
      const floats = floatsOf(recipe);
      const compressed = storable(made);
      const layout = kind.layout(compressed, floats);
      progress({ phase: 'write', done: 0, total: 1 });
      const { path, bytes } = await writeCheckpoint(compressed, folder, layout, { floats });
      for (const line of kind.notes?.(compressed, floats) ?? []) note(line);
      progress({ phase: 'verify', done: 0, total: 1 });
      const opened = await openForCompression(folder);
      const check = await verifyCheckpoint(opened.model, compressed, texts.verification, floats);
      return {
        file: { path, type: layout.type, bytes },
        checks: [{ engine: 'Lapidary', ...check }],
        opened: { ...opened, name: original.name, tokenizer, fileBytes: bytes },
      };
    },
  };
}

function isHeld(check: () => void): boolean {
  try {
    check();
    return true;
  } catch (error) {
    if (error instanceof LapidaryError) return false;
    throw error;
  }
}

const keptTable = (label: string): LapidaryError =>
  new LapidaryError({
    what: `${label} holds no compressed embedding or head`,
    expected: 'steps for the matrices of the blocks',
    fix: 'leave the embedding and the head as they are: --embedding-bits 16, or targets: [blocks]',
  });
