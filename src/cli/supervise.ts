/**
 * Runs the command line in a process of its own, on the same streams, so that a signal ends it at any moment: also while
 * native code or a library keeps its one thread from hearing of it. The first signal asks it to stop and clean up; a
 * second one, or a few seconds, end it. What it had half-written lies under a temporary name, as after any kill, and the
 * next run removes it or goes on from it.
 */

import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { ExitCode } from '../base/errors.ts';

const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** From the first signal to the end, for a process that does not answer. */
const graceMilliseconds = 5000;

/** What sends a signal to a process and then to its whole group (timeout, some terminals' wrappers) means it once. */
const onceMilliseconds = 150;

/** What a process says that a signal ended, as shells do: 128 and the signal's number. */
export const exitCodes: Readonly<Partial<Record<NodeJS.Signals, ExitCode>>> = {
  SIGHUP: ExitCode.hungUp,
  SIGINT: ExitCode.interrupted,
  SIGTERM: ExitCode.terminated,
};

/** @returns the command's exit code, that of the signal where one ended it. Ends by the command's signal where that was not sent here */
export function supervise(args: readonly string[]): Promise<number> {
  const entry = fileURLToPath(new URL('./command.js', import.meta.url));
  const child = spawn(process.execPath, [...process.execArgv, entry, ...args], {
    stdio: 'inherit',
    env: { ...process.env, LAPIDARY_PARENT: String(process.pid) },
  });
  let asked: { readonly at: number; readonly signal: NodeJS.Signals } | undefined;
  const end = (why: string) => {
    // A bar may stand on the line.
    const line = process.stderr.isTTY ? '\n' : '';
    if (child.kill('SIGKILL'))
      process.stderr.write(`${line}${why}; the next run removes what is half-written\n`);
  };
  const stop = (signal: NodeJS.Signals) => {
    if (asked !== undefined) {
      if (performance.now() - asked.at > onceMilliseconds) end('ended at once');
      return;
    }
    asked = { at: performance.now(), signal };
    // A console of Windows tells all of its processes.
    if (process.platform !== 'win32') child.kill(signal);
    setTimeout(() => end('it did not stop by itself and was ended'), graceMilliseconds).unref();
  };
  for (const signal of signals) process.on(signal, stop);
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('exit', (code, signal) => {
      for (const each of signals) process.off(each, stop);
      if (code !== null) return resolve(code);
      if (asked !== undefined) return resolve(exitCodes[asked.signal]!);
      if (signal === 'SIGKILL')
        process.stderr.write('ended by SIGKILL, as systems do where memory runs out\n');
      process.kill(process.pid, signal!);
    });
  });
}

/** Whether this process is a command whose parent counts the signals. */
export const isSupervised = (): boolean => process.env.LAPIDARY_PARENT === String(process.ppid);
