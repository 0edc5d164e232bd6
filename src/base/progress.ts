/**
 * How long work speaks to whoever waits for it. Library code takes an optional `Progress` and calls it;
 * the command line draws it. Nothing here knows about terminals.
 */

export interface ProgressEvent {
  /** What is being done, as a person would say it: "quantize", "evaluate". */
  readonly phase: string;
  /** Units done and in all; `total` is 0 where it is not known. */
  readonly done: number;
  readonly total: number;
  /** What is at hand now: "model.layers.3", a file. */
  readonly detail?: string | undefined;
}

export type Progress = (event: ProgressEvent) => void;

/** For callers that do not listen. */
export const silent: Progress = () => {};
