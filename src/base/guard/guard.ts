/**
 * Libraries that read files of strangers, where they can be ended: each in a process of its own, with a bound on memory
 * and a deadline. Some files take all time or all memory of a parser, and a thread would not do: where a list or a map
 * outgrows its heap, V8 ends the whole process.
 *
 * Asking is synchronous, as the libraries are: this thread sleeps while another one (relay.js) talks to the process
 * (child.js), which is started for the first question, ended when it idles, and started again after it was ended.
 */

import { MessageChannel, receiveMessageOnPort, Worker } from 'node:worker_threads';
import { LapidaryError } from '../errors.ts';
import { shortened } from '../json.ts';

/** Bytes of a question that the time is given for; a longer one gets more. */
const bytesAtOnce = 2 ** 24;

/** What the environment gives libraries, where it says so. */
const limits = {
  seconds: { variable: 'LAPIDARY_LIBRARY_SECONDS', standard: 60 },
  mebibytes: { variable: 'LAPIDARY_LIBRARY_MIB', standard: 4096 },
};

/** The library refused, in its own words. */
export class LibraryFailure extends Error {}

export interface Question {
  readonly job: string;
  readonly value: unknown;
  /** The file, for errors. */
  readonly where: string;
  /** How much there is to read. */
  readonly bytes?: number;
}

/** Something that the library made and keeps. */
export interface Kept {
  /** @throws LibraryFailure, LapidaryError as `Library.ask` */
  ask<Answer>(question: Question): Answer;
}

export interface Library {
  /**
   * @throws LibraryFailure where the library does
   * @throws LapidaryError where it took more time or memory than it is given
   */
  ask<Answer>(question: Question): Answer;
  /**
   * What `question` makes, asked for now; `again` asks the same anew when its process was ended meanwhile.
   * @throws as `ask`
   */
  keep<Answer>(question: Question, again?: () => Question): { readonly answer: Answer; readonly kept: Kept };
}

type Reply =
  | { readonly found: unknown }
  | { readonly error: string }
  | { readonly ended: string }
  | { readonly lost: true };

/** @param entry plain JavaScript that exports `jobs`: functions by name; @param name what runs there, for errors */
export function guarded(entry: URL, name: string): Library {
  let send: ReturnType<typeof startRelay> | undefined;
  let handles = 0;
  const released = new FinalizationRegistry((handle: number) => send?.({ release: handle }));

  function exchange({ job, value, where, bytes = 0 }: Question, handle?: number, makes = false): Reply {
    send ??= startRelay(entry);
    const [seconds, mebibytes] = [limitOf('seconds') * (1 + bytes / bytesAtOnce), limitOf('mebibytes')];
    const reply = send({ job, value, handle, makes, seconds, mebibytes });
    // Its thread does not answer: with the next question comes another.
    if (!reply) send = undefined;
    if (!reply || 'ended' in reply) throw ended(reply?.ended ?? 'time', name, where, { seconds, mebibytes });
    return reply;
  }

  function found<Answer>(reply: Reply): Answer {
    if ('found' in reply) return reply.found as Answer;
    throw new LibraryFailure('error' in reply ? shortened(reply.error, 400) : 'it is gone');
  }

  return {
    ask: (question) => found(exchange(question)),
    keep(question, again = () => question) {
      const handle = ++handles;
      const answer = found<never>(exchange(question, handle, true));
      const kept: Kept = {
        ask(inner) {
          const reply = exchange(inner, handle);
          if (!('lost' in reply)) return found(reply);
          found(exchange(again(), handle, true));
          return found(exchange(inner, handle));
        },
      };
      released.register(kept, handle);
      return { answer, kept };
    },
  };
}

/** @throws LapidaryError where the environment says what cannot be */
export function limitOf(kind: keyof typeof limits): number {
  const { variable, standard } = limits[kind];
  const value = Number(process.env[variable] || standard);
  if (Number.isFinite(value) && value > 0) return value;
  throw new LapidaryError({
    what: 'a limit that cannot be',
    where: variable,
    expected: 'a number above 0',
    found: shortened(process.env[variable]),
  });
}

function ended(
  how: string,
  name: string,
  where: string,
  given: Readonly<Record<keyof typeof limits, number>>,
): LapidaryError {
  const kind = how === 'time' ? 'seconds' : 'mebibytes';
  return outOf(kind, given[kind], name, where, how === 'time' || how === 'memory' ? undefined : how);
}

/** `name` took more than it was given. */
export function outOf(
  kind: keyof typeof limits,
  given: number,
  name: string,
  where: string,
  found?: string,
): LapidaryError {
  const unit = kind === 'seconds' ? 's' : 'MiB of memory';
  return new LapidaryError({
    what: `${name} took more ${kind === 'seconds' ? 'time' : 'memory'} than it is given, and was ended`,
    where,
    expected: `at most ${Math.round(given * 100) / 100} ${unit}`,
    found,
    fix: `look at the file; where it is honest, set ${limits[kind].variable}=${Math.ceil(4 * limitOf(kind))} in the environment`,
  });
}

/** A question, or the handle of something that nobody asks any more. */
interface Message extends Readonly<Record<string, unknown>> {
  readonly seconds?: number;
}

/** For what the relay itself does, and for the process to start. */
const patience = 90_000;

/**
 * Sleeps until a reply is there. Its value says so, not that this thread was woken: the relay wakes it after it has set the
 * value, and where this thread saw the value by itself, that call comes late, into the sleep of the next question.
 * @param answered one number, 1 where the reply is there
 * @param most milliseconds
 * @returns whether it is there
 */
export function comes(answered: Int32Array, most: number): boolean {
  let how: ReturnType<typeof Atomics.wait>;
  do how = Atomics.wait(answered, 0, 0, most);
  while (how === 'ok' && Atomics.load(answered, 0) === 0);
  return how !== 'timed-out';
}

/** @returns what sends a message and, where it is a question, sleeps until the reply is there; nothing where none comes */
function startRelay(entry: URL): (message: Message) => Reply | undefined {
  const { port1: port, port2 } = new MessageChannel();
  const answered = new Int32Array(new SharedArrayBuffer(4));
  const relay = new Worker(new URL('./relay.js', import.meta.url), {
    workerData: { lapidaryRelay: { port: port2, answered, entry: entry.href } },
    transferList: [port2],
    execArgv: [],
  });
  // The process may end while they wait for work.
  relay.unref();
  port.unref();
  return (message) => {
    Atomics.store(answered, 0, 0);
    port.postMessage(message);
    if (message.seconds === undefined) return undefined;
    // Twice: where the machine stood still, the relay has had no time.
    for (const most of [message.seconds * 1000 + patience, patience]) if (comes(answered, most)) break;
    const reply = receiveMessageOnPort(port)?.message as Reply | undefined;
    if (!reply) void relay.terminate();
    return reply;
  };
}
