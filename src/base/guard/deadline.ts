/**
 * Work in this thread that has an end: regular expressions of strangers, say, which on some names take all time. V8 ends
 * them where a script is run with a deadline; a process of its own (guard.ts) is for what takes all memory as well.
 */

import { createContext, Script } from 'node:vm';
import { limitOf, outOf } from './guard.ts';

const context = createContext({});
const script = new Script('work()');

/**
 * What `work` returns or throws, which must not wait for anything.
 * @param name what works, for errors; @param where the file
 * @throws LapidaryError where it took more time than libraries are given
 */
export function withinTime<T>(work: () => T, name: string, where: string): T {
  const seconds = limitOf('seconds');
  context.work = work;
  try {
    return script.runInContext(context, { timeout: Math.max(1, Math.round(seconds * 1000)) });
  } catch (error) {
    if ((error as NodeJS.ErrnoException | undefined)?.code !== 'ERR_SCRIPT_EXECUTION_TIMEOUT') throw error;
    throw outOf('seconds', seconds, name, where);
  } finally {
    delete context.work;
  }
}
