/** What a compress run says of itself: plain data, for the model card, for `--json`, for the library's callers. */

import type { Answers } from '../generate/answers.ts';
import type { LayerRow } from '../calibrate/planned.ts';
import type { AccuracyLevel } from '../encodings/encoding.ts';
import type { Cost } from '../evaluate/cost.ts';
import type { Evaluation } from '../evaluate/evaluate.ts';
import type { Speed } from '../evaluate/speed.ts';
import type { Check, WrittenFile } from '../export/written.ts';
import type { Recipe } from '../recipe/recipe.ts';

/** What is known of a model before or after: its cost always, the rest where it could be measured. */
export interface Measures extends Cost, Partial<Evaluation> {
  readonly speed?: Speed | undefined;
}

export interface CompressReport {
  readonly model: string;
  readonly modelType: string;
  readonly out: string;
  /** What its file is called, where it is one of several types in the folder. */
  readonly type?: string | undefined;
  /** Whether it has a chat template. */
  readonly chat: boolean;
  /** Complete, as written beside the files. */
  readonly recipe: Recipe;
  readonly original: Measures;
  readonly compressed: Measures;
  readonly file: WrittenFile;
  /** The written file against the model in memory, in every engine that loaded it. */
  readonly checks: readonly Check[];
  /** What integer activations would cost or did cost, where that was measured: mean KL by accuracy level. */
  readonly accuracyLevels?: Readonly<Record<AccuracyLevel, number>> | undefined;
  readonly layers: readonly LayerRow[];
  /** Of both models to the same prompts; none where they were not asked. */
  readonly answers: readonly Answers[];
  /** Sentences a reader must know. */
  readonly notes: readonly string[];
  /** Said where the file was measured to run slower than its original; apart from notes, since speeds vary. */
  readonly slower?: string | undefined;
  /** Seconds by phase. */
  readonly seconds: Readonly<Record<string, number>>;
}
