/**
 * The thread between one that sleeps until it has an answer and the process that a library runs in: it starts that
 * process, looks at the clock and at its memory, and ends it. Plain JavaScript, because a worker thread starts from the
 * file itself, in the source tree and in the built package alike.
 */

import { fork } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { isMainThread, workerData } from 'node:worker_threads';

/** So long without a question, and the process is not kept. */
const idleMilliseconds = 60_000;
/** For the process to start, which is nobody's fault on a busy machine. */
const startMilliseconds = 60_000;
/**
 * How often it is looked at the clock, and at what the process has in memory, where a system tells it. Looks are what is
 * counted: while a whole machine stands still or has no time for this thread, the process had none either.
 */
const lookMilliseconds = 100;
/** What the program itself takes, beside what it reads. */
const ownMebibytes = 128;

/** @typedef {{ job: string, value: unknown, handle?: number, makes: boolean, seconds: number, mebibytes: number }} Question */

/** @param {{ port: import('node:worker_threads').MessagePort, answered: Int32Array, entry: string }} data */
function relay({ port, answered, entry }) {
  /** @type {import('node:child_process').ChildProcess | undefined} */
  let child;
  let given = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let idle;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  let look;
  let waiting = false;
  let ready = false;
  let milliseconds = 0;
  let left = 0;

  /** @param {object} reply */
  function answer(reply) {
    if (!waiting) return;
    waiting = false;
    clearInterval(look);
    idle = setTimeout(end, idleMilliseconds);
    port.postMessage(reply);
    Atomics.store(answered, 0, 1);
    Atomics.notify(answered, 0);
  }

  function end() {
    child?.kill('SIGKILL');
    child = undefined;
  }

  /** @param {string} how */
  function stop(how) {
    end();
    answer({ ended: how });
  }

  /** @param {number} mebibytes */
  function start(mebibytes) {
    if (child && given === mebibytes) return child;
    end();
    given = mebibytes;
    const started = fork(fileURLToPath(new URL('./child.js', import.meta.url)), [entry], {
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
      execArgv: [`--max-old-space-size=${Math.ceil(mebibytes)}`],
    });
    ready = false;
    started.on('message', (/** @type {object} */ reply) => {
      if (started !== child) return;
      if (!('ready' in reply)) return answer(reply);
      ready = true;
      left = milliseconds;
    });
    started.on('error', (error) => {
      if (started === child) stop(error.message);
    });
    started.on('exit', (code, signal) => {
      if (started !== child) return;
      child = undefined;
      // V8 ends a process so where its memory is at an end.
      const full = signal === 'SIGABRT' || signal === 'SIGTRAP' || signal === 'SIGKILL' || code === 134;
      answer({ ended: full ? 'memory' : `its process ended with ${signal ?? `exit code ${code}`}` });
    });
    child = started;
    return started;
  }

  /** @param {number | undefined} pid */
  function held(pid) {
    try {
      return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;
    } catch {
      return 0;
    }
  }

  port.on('message', (/** @type {Question | { release: number }} */ message) => {
    if ('release' in message) {
      child?.send(message, () => {});
      return;
    }
    waiting = true;
    clearTimeout(idle);
    const { seconds, mebibytes, ...question } = message;
    const asked = start(mebibytes);
    milliseconds = seconds * 1000;
    left = ready ? milliseconds : startMilliseconds;
    look = setInterval(() => {
      left -= lookMilliseconds;
      if (left < 0) stop('time');
      else if (held(asked.pid) > mebibytes + ownMebibytes) stop('memory');
    }, lookMilliseconds);
    asked.send(question, (error) => {
      if (error && asked === child) stop(error.message);
    });
  });
}

if (!isMainThread && workerData?.lapidaryRelay) relay(workerData.lapidaryRelay);
