/**
 * The process that a library runs in: the address of a module with its `jobs` is its argument, and each message is a
 * question that one of them answers. Plain JavaScript, because the process starts from the file itself, in the source
 * tree and in the built package alike.
 */

import { endWith } from '../parent.js';

/** @typedef {(value: any, kept: any) => unknown} Job */

endWith(process.ppid);
// A terminal interrupts all of a command's processes; the parent decides what that means.
process.on('SIGINT', () => {});
process.on('disconnect', () => process.exit(0));

/** @type {Map<number, unknown>} */
const kept = new Map();
/** @type {Promise<{ jobs: Readonly<Record<string, Job>> }>} */
const library = import(/** @type {string} */ (process.argv[2]));

/** From here on time counts: before that nothing is asked of the library. What hinders it is told to who asks. */
const ready = library
  .catch(() => {})
  .then(() => new Promise((resolve) => process.send?.({ ready: true }, resolve)));

/** @param {any} message */
async function answer({ job, value, handle, makes }) {
  await ready;
  if (handle !== undefined && !makes && !kept.has(handle)) return { lost: true };
  try {
    const { jobs } = await library;
    const found = await jobs[job](value, kept.get(handle));
    if (!makes) return { found };
    const { keep, answer: told } = /** @type {{ keep: unknown, answer: unknown }} */ (found);
    kept.set(handle, keep);
    return { found: told };
  } catch (error) {
    return { error: String(/** @type {any} */ (error)?.message ?? error) };
  }
}

process.on('message', async (/** @type {any} */ message) => {
  if ('release' in message) kept.delete(message.release);
  else process.send?.(await answer(message));
});
