/**
 * Ends a process when the one that started it is gone, whatever its main thread does: a thread of its own looks. Plain
 * JavaScript, because a worker thread starts from the file itself, in the source tree and in the built package alike.
 */

import { isMainThread, Worker, workerData } from 'node:worker_threads';

const everyMilliseconds = 500;

/** @param {number} parent the process that this one must not outlive */
export function endWith(parent) {
  const worker = new Worker(new URL(import.meta.url), {
    workerData: { lapidaryParent: parent },
    execArgv: [],
    resourceLimits: { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 1 },
  });
  worker.unref();
  // Then nobody looks; the process ends when its work does.
  worker.on('error', () => {});
}

/** @param {number} parent */
function isGone(parent) {
  // Orphans get another parent, but not on Windows.
  if (process.ppid !== parent) return true;
  if (process.platform !== 'win32') return false;
  try {
    process.kill(parent, 0);
    return false;
  } catch {
    return true;
  }
}

if (!isMainThread && workerData?.lapidaryParent !== undefined) {
  setInterval(() => {
    if (isGone(workerData.lapidaryParent)) process.kill(process.pid, 'SIGKILL');
  }, everyMilliseconds);
}
