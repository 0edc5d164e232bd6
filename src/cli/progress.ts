/**
 * Draws progress on standard error: one line with a bar and the time left on a terminal, plain lines elsewhere
 * (a log file should hold a few dozen of them, not thousands).
 */

import type { Progress, ProgressEvent } from '../base/progress.ts';

interface Output {
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
  write(text: string): unknown;
}

/** Milliseconds between redraws on a terminal, and between plain lines of one phase. */
const redrawEvery = 100;
const lineEvery = 10_000;
/** So that phase, time and the name of a layer fit 80 columns. */
const barWidth = 12;

export interface Drawing {
  readonly progress: Progress;
  /** Writes a line of its own, which the bar makes room for. */
  readonly say: (line: string) => void;
  /** Called when the work is over. */
  readonly finish: () => void;
}

export function drawProgress(output: Output = process.stderr): Drawing {
  let phase = '';
  let started = 0;
  let drawn = 0;
  let reached = 0;
  // What was done before, by an earlier run, says nothing about the time.
  let before = 0;

  const finishPhase = () => {
    if (output.isTTY && phase) output.write('\r\x1b[K');
    if (phase) output.write(`${phase}: ${duration(Date.now() - started)}\n`);
  };
  const progress: Progress = (event) => {
    const now = Date.now();
    // The same work on another model begins anew, and its time with it.
    const isNew = event.phase !== phase || event.done < reached;
    reached = event.done;
    if (isNew) {
      finishPhase();
      [phase, started, drawn, before] = [event.phase, now, 0, event.done];
    }
    if (now - drawn < (output.isTTY ? redrawEvery : lineEvery)) return;
    // A plain log names a phase when it ends, and again only if it takes long.
    if (output.isTTY)
      output.write(`\r\x1b[K${line(event, before, now - started).slice(0, (output.columns || 80) - 1)}`);
    else if (!isNew) output.write(`${line(event, before, now - started)}\n`);
    drawn = now;
  };
  return {
    progress,
    say: (text) => {
      output.write(`${output.isTTY && phase ? '\r\x1b[K' : ''}${text}\n`);
      drawn = 0;
    },
    finish: () => {
      finishPhase();
      phase = '';
    },
  };
}

function line(event: ProgressEvent, before: number, elapsed: number): string {
  const { phase, done, total, detail } = event;
  if (total === 0) return `${phase} ${detail ?? ''}`;
  const share = Math.min(done / total, 1);
  const filled = Math.round(share * barWidth);
  const bar = '█'.repeat(filled) + '░'.repeat(barWidth - filled);
  const each = elapsed / (done - before);
  const left = done > before && done < total ? `, ${duration(each * (total - done))} left` : '';
  return `${phase} ${bar} ${Math.floor(share * 100)}%${left} ${detail ?? ''}`;
}

/** Milliseconds as people say them: "0.4 s", "12 s", "3 min 5 s", "2 h 10 min". */
export function duration(milliseconds: number): string {
  const seconds = milliseconds / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}
