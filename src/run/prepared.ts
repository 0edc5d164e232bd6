/**
 * A run as all its parts see it: one value, made once, when everything that can be found out before the work was found
 * out. Parts take it whole; none hands options on to another. Several types of one model side by side are a run each, of
 * one original, one text and one folder.
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
import type { Run, TypedRecipe } from './asked.ts';
import { checkEncoded } from './encoded.ts';
import type { Importance } from './importance.ts';
import { readImportance } from './importance.ts';
import type { Texts } from './texts.ts';
import { calibrationFile, fewTokens, needsText, readTexts, textsToPlan } from './texts.ts';

/** What is known of a run when its model is open. */
export interface OpenedRun extends TypedRecipe {
  /** The folder to write. */
  readonly out: string;
  readonly original: OpenedCheckpoint;
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
}

/** What plans start from. */
export interface ForeseenRun extends OpenedRun {
  readonly texts: Texts;
}

export interface Prepared extends ForeseenRun {
  readonly importance: Importance | undefined;
  /** Versions and hashes of what goes in. */
  readonly made: Record<string, unknown>;
  readonly clock: Clock;
}

/** What is known when flags and files were found good, before what takes long. */
export interface Begun {
  /** As they are for this model. */
  readonly runs: readonly TypedRecipe[];
  readonly out: string;
  readonly overwrite: boolean;
  readonly made: Record<string, unknown>;
}

export interface Clock {
  /** What came before counts for no phase. */
  start(): void;
  /** The time since the lap before was this phase. */
  lap(phase: string): void;
  /** Seconds by phase. */
  laps(): Readonly<Record<string, number>>;
}

/**
 * Everything before the work: what can be wrong is found out here.
 * @param begin called when flags and files are known to be good, before what takes long: a place that cannot be written
 *   to is found out then
 * @returns a run for each recipe
 * @throws LapidaryError on a model, recipe or text that cannot be used
 */
export async function prepare(run: Run, begin: (begun: Begun) => void = () => {}): Promise<Prepared[]> {
  const clock = stopwatch();
  const { out, overwrite = false, signal } = run;
  const opened = await open(run);
  const [{ original, session, progress }] = opened as [OpenedRun];
  for (const [name, tensor] of original.checkpoint.tensors) checkFinite(name, tensor, original.model.source);
  const { recipe } = asking(opened);
  const inputs = inputsOf(recipe).map(identify);
  const importance = opened.map(({ recipe, note }) => readImportance(recipe, original.model, note));
  let made: Begun['made'] = {};
  const texts = await readTexts(recipe, original, noteIn(opened), {
    ...session,
    progress,
    signal,
    begin: () => {
      made = provenance(original, recipe);
      begin({ runs: opened, out, overwrite, made });
    },
  });
  // The hashes are of what was read.
  inputs.forEach(checkUnchanged);
  for (const each of opened) {
    noteFewTokens(each, texts);
    for (const change of changesSince(each.recipe.made, made)) each.note(change);
  }
  clock.lap('load');
  return opened.map((each, index) => ({
    ...each,
    texts,
    importance: importance[index],
    made,
    // Loaded was once.
    clock: index === 0 ? clock : stopwatch(),
  }));
}

/** What plans start from, without a weight being read. @throws LapidaryError as `prepare` does on what needs none */
export async function foresee(run: Run): Promise<ForeseenRun[]> {
  const opened = await open(run);
  const { recipe, original } = asking(opened);
  const texts = await textsToPlan(recipe, original, noteIn(opened));
  for (const each of opened) noteFewTokens(each, texts);
  return opened.map((each) => ({ ...each, texts }));
}

/** The model, and each recipe as it is for it. */
async function open(run: Run): Promise<OpenedRun[]> {
  emptyPage();
  const { recipes, out, speed = true, device, threads, signal } = run;
  const { progress = silent, warn = () => {}, say = () => {} } = run;
  const ofModel: string[] = [];
  const both = (line: string) => {
    warn(line);
    ofModel.push(line);
  };
  const { model, revision } = recipes[0].recipe;
  const original = await openForCompression(model, { progress, warn: both, revision });
  const answers = asksPrompts({ speed, answers: run.answers }, original.model);
  const all = { out, original, speed, answers, session: { device, threads }, progress, signal };
  const runs: OpenedRun[] = [];
  for (const { type, recipe } of recipes) {
    const notes = [...ofModel];
    const named = type === undefined ? '' : `${type}: `;
    const told = {
      say: (line: string) => say(named + line),
      note: (line: string) => void notes.push(line),
      warn: (line: string) => warn(named + line),
    };
    runs.push({ ...all, type, recipe: await fitted(recipe, original, told), ...told, notes });
  }
  return runs;
}

/** The recipe as it is for a model and the format that it is written in. */
async function fitted(
  asked: Recipe,
  original: OpenedCheckpoint,
  { note, warn, say }: Pick<OpenedRun, 'note' | 'warn' | 'say'>,
): Promise<Recipe> {
  const both = (line: string) => {
    warn(line);
    note(line);
  };
  const recipe = await withSpared(settled(asked, original, { warn: both, note }), original, both);
  const { format } = recipe.export;
  checkHeld(format, original.model, formats[format].label);
  await checkEncoded(recipe, original.model);
  await formats[format].check(recipe, original);
  checkWindows(recipe, original, both);
  for (const line of opening(recipe)) say(line);
  for (const line of foretold(recipe, original.model)) both(line);
  return recipe;
}

/** The one of several with the same sections that texts are read for: one that needs them. */
const asking = (runs: readonly OpenedRun[]): OpenedRun =>
  runs.find(({ recipe }) => needsText(recipe)) ?? runs[0]!;

const noteIn = (runs: readonly OpenedRun[]) => (line: string) => {
  for (const { note } of runs) note(line);
};

function noteFewTokens({ recipe, original, note }: OpenedRun, { calibration }: Texts): void {
  const few = calibration.length > 0 ? fewTokens(recipe, original.model, calibration) : undefined;
  if (few) note(few);
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
    start() {
      last = performance.now();
    },
    lap(phase) {
      const now = performance.now();
      seconds[phase] = (now - last) / 1000;
      last = now;
    },
    laps: () => seconds,
  };
}
