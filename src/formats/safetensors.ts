/** What all formats of quantized safetensors have in common: a folder that is written, opened again and compared. */

import { LapidaryError } from '../base/errors.ts';
import type { Target } from '../calibrate/targets.ts';
import type { Encoding } from '../encodings/encoding.ts';
import type { CheckpointLayout, FloatName } from '../export/safetensors/folder.ts';
import { writeCheckpoint } from '../export/safetensors/folder.ts';
import { verifyCheckpoint } from '../export/safetensors/verify.ts';
import type { Model } from '../models/model.ts';
import { openForCompression } from '../open.ts';
import type { Recipe } from '../recipe.ts';
import { checkSteps, misfitting } from './check.ts';
import type { Format } from './format.ts';

/** What one of them is. */
export interface CheckpointKind extends Pick<
  Format,
  'label' | 'engines' | 'recommend' | 'keepsTables' | 'fitting' | 'storedBits' | 'withoutWindows' | 'card'
> {
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

const floatNames = { F16: 'float16', BF16: 'bfloat16', F32: 'float32' } as const;
const floatsOf = ({ export: { floats } }: Recipe): FloatName => floatNames[floats];

export function safetensorsFormat(kind: CheckpointKind): Format {
  const { label, engines, recommend, keepsTables, fitting, storedBits, withoutWindows, card } = kind;
  const fits: CheckpointKind['fits'] = (encoding, target) => {
    if (keepsTables && target.place !== 'block') throw keptTable(label);
    kind.fits(encoding, target);
  };
  const holds: Format['holds'] = (encoding, target, recipe) => {
    if (encoding.bits >= 16) return;
    fits(encoding, target);
    kind.exact(encoding, floatsOf(recipe));
  };
  const matrices = { fits, holds, fused: kind.fused };
  return {
    label,
    engines,
    recommend,
    keepsTables,
    fitting,
    withoutWindows,
    storedBits,
    card,
    async check(recipe, original) {
      kind.layout(original.model, floatsOf(recipe));
      await checkSteps(recipe, original, matrices);
    },
    spared: (recipe, original) => misfitting(recipe, original, matrices),
    holds,
    async write({ recipe, original, compressed, folder, progress, texts, note }) {
      const floats = floatsOf(recipe);
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
        opened: { ...opened, name: original.name, tokenizer: original.tokenizer, fileBytes: bytes },
      };
    },
  };
}

const keptTable = (label: string): LapidaryError =>
  new LapidaryError({
    what: `${label} holds no compressed embedding or head`,
    expected: 'steps for the matrices of the blocks',
    fix: 'leave the embedding and the head as they are: --embedding-bits 16, or targets: [blocks]',
  });
