/**
 * A run as all its parts see it: one value, made once, when everything that can be found out before the work was found
 * out. Parts take it whole; none hands options on to another.
 */

import { checkFinite } from '../base/finite.ts';
import type { Progress } from '../base/progress.ts';
import { silent } from '../base/progress.ts';
import { foretold, opening } from '../formats/foretold.ts';
import { checkHeld } from '../formats/holds.ts';
import { formats } from '../formats/index.ts';
import { settled } from '../formats/settle.ts';
import { checkWindows, withSpared } from '../formats/spared.ts';
import { asksPrompts } from '../generate/answers.ts';
import type { SessionOptions } from '../graph/session.ts';
import { checkUnchanged, identify } from '../io/range.ts';
import type { OpenedCheckpoint } from '../open.ts';
import { openForCompression } from '../open.ts';
import type { Recipe } from '../recipe/recipe.ts';
import { emptyPage } from '../report/html.ts';
import { changesSince, provenance } from '../report/run.ts';
import type { Run } from './asked.ts';
import type { Importance } from './importance.ts';
import { readImportance } from './importance.ts';
import type { Texts } from './prepare.ts';
import { calibrationFile, readTexts, textsToPlan } from './prepare.ts';

/** What is known when flags and files were found good, before what takes long. */
export interface Begun {
  /** As it is for this model. */
  readonly recipe: Recipe;
  /** The folder to write. */
  readonly out: string;
  readonly overwrite: boolean;
  /** Versions and hashes of what goes in. */
  readonly made: Record<string, unknown>;
}

export interface Prepared extends Begun {
  readonly original: OpenedCheckpoint;
  readonly texts: Texts;
  readonly importance: Importance | undefined;
  /** Whether it is measured how fast original and result run, and whether both answer a few prompts. */
  readonly speed: boolean;
  readonly answers: boolean;
  readonly session: Pick<SessionOptions, 'device' | 'threads'>;
  readonly progress: Progress;
  readonly signal: AbortSignal | undefined;
  /** Told what the run is about to do. */
  readonly say: (line: string) => void;
  /** Told what readers of the report must know. */
  readonly note: (line: string) => void;
  /** Told what who waits for the run must know. */
  readonly warn: (line: string) => void;
  /** What was noted so far. */
  readonly notes: readonly string[];
  readonly clock: Clock;
}

export interface Clock {
  /** The time since the lap before was this phase. */
  lap(phase: string): void;
  /** Seconds by phase. */
  laps(): Readonly<Record<string, number>>;
}

/**
 * Everything before the work: what can be wrong is found out here.
 * @param begin called when flags and files are known to be good, before what takes long: a place that cannot be written
 *   to is found out then
 * @throws LapidaryError on a model, recipe or text that cannot be used
 */
export async function prepare(run: Run, begin: (begun: Begun) => void = () => {}): Promise<Prepared> {
  const clock = stopwatch();
  emptyPage();
  const notes: string[] = [];
  const { out, overwrite = false, speed = true, device, threads, signal, say = () => {} } = run;
  const { progress = silent, warn = () => {} } = run;
  const note = (line: string) => void notes.push(line);
  const both = (line: string) => {
    warn(line);
    note(line);
  };
  const { model, revision } = run.recipe;
  const original = await openForCompression(model, { progress, warn: both, revision });
  const recipe = await fitted(run.recipe, original, { note, warn: both, say });
  for (const [name, tensor] of original.checkpoint.tensors) checkFinite(name, tensor, original.model.source);
  const inputs = inputsOf(recipe).map(identify);
  const importance = readImportance(recipe, original.model, note);
  let begun: Begun = { recipe, out, overwrite, made: {} };
  const texts = await readTexts(recipe, original, note, {
    device,
    threads,
    progress,
    signal,
    begin: () => {
      begun = { ...begun, made: provenance(original, recipe) };
      begin(begun);
    },
  });
  // The hashes are of what was read.
  inputs.forEach(checkUnchanged);
  for (const change of changesSince(recipe.made, begun.made)) note(change);
  clock.lap('load');
  const answers = asksPrompts({ speed, answers: run.answers }, original.model);
  const session = { device, threads };
  const told = { say, note, warn, notes, progress, signal };
  return { ...begun, original, texts, importance, speed, answers, session, ...told, clock };
}

/** The recipe as it is for a model and the format that it is written in. */
async function fitted(
  asked: Recipe,
  original: OpenedCheckpoint,
  { note, warn, say }: Pick<Prepared, 'note' | 'warn' | 'say'>,
): Promise<Recipe> {
  const recipe = await withSpared(settled(asked, original, { warn, note }), original, warn);
  const { format } = recipe.export;
  checkHeld(format, original.model, formats[format].label);
  await formats[format].check(recipe, original);
  checkWindows(recipe, original, warn);
  for (const line of opening(recipe)) say(line);
  for (const line of foretold(recipe, original.model)) warn(line);
  return recipe;
}

/** What plans start from, without a weight being read. @throws LapidaryError as `prepare` does on what needs none */
export async function foresee(
  run: Run,
): Promise<Pick<Prepared, 'recipe' | 'out' | 'original' | 'texts' | 'speed' | 'answers' | 'notes'>> {
  emptyPage();
  const notes: string[] = [];
  const { out, speed = true, progress = silent, warn = () => {}, say = () => {} } = run;
  const note = (line: string) => void notes.push(line);
  const both = (line: string) => {
    warn(line);
    note(line);
  };
  const { model, revision } = run.recipe;
  const original = await openForCompression(model, { progress, warn: both, revision });
  const recipe = await fitted(run.recipe, original, { note, warn: both, say });
  const texts = await textsToPlan(recipe, original, note);
  const answers = asksPrompts({ speed, answers: run.answers }, original.model);
  return { recipe, out, original, texts, speed, answers, notes };
}

/** Files besides the model. */
export const inputsOf = (recipe: Recipe): string[] =>
  [calibrationFile(recipe), recipe.evaluation.data, recipe.calibration.imatrix].filter(
    (path) => path !== undefined,
  );

function stopwatch(): Clock {
  const seconds: Record<string, number> = {};
  let last = performance.now();
  return {
    lap(phase) {
      const now = performance.now();
      seconds[phase] = (now - last) / 1000;
      last = now;
    },
    laps: () => seconds,
  };
}
