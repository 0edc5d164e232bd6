/** Text that is being written: its pieces as they come, and what came of it. Nothing is computed before somebody asks. */

/**
 * `for await` gives the text in pieces, each as soon as it is certain; `await` gives the whole with its figures, at any
 * time. Both may be done, in any order and more than once: the work is done once. Who leaves the loop early stops it;
 * awaited then, it gives what was written ("aborted"). Errors are thrown by whichever asks.
 */
export interface Generating<Result> extends AsyncIterable<string>, PromiseLike<Result> {}

/**
 * @param write does the work: tells each piece, ends early with what it has once the signal is aborted
 */
export function generating<Result>(
  write: (tell: (text: string) => void, stopped: AbortSignal) => Promise<Result>,
): Generating<Result> {
  const stop = new AbortController();
  const pieces: string[] = [];
  let whole: Promise<Result> | undefined;
  let ended = false;
  let wake = () => {};
  let news = new Promise<void>((resolve) => (wake = resolve));
  const awaken = () => {
    wake();
    news = new Promise<void>((resolve) => (wake = resolve));
  };
  const tell = (text: string) => {
    if (text === '') return;
    pieces.push(text);
    awaken();
  };
  const start = () =>
    (whole ??= write(tell, stop.signal).finally(() => {
      ended = true;
      awaken();
    }));

  async function* texts(): AsyncGenerator<string, void, undefined> {
    const result = start();
    // It is awaited below, whoever else does.
    result.catch(() => {});
    try {
      for (let told = 0; ;) {
        while (told < pieces.length) yield pieces[told++]!;
        if (ended) break;
        await news;
      }
      await result;
    } finally {
      if (!ended) {
        stop.abort();
        await result.catch(() => {});
      }
    }
  }
  // As promises of clients do that stream: who forgets to iterate gets the whole.
  // oxlint-disable-next-line unicorn/no-thenable
  return { then: (...handlers) => start().then(...handlers), [Symbol.asyncIterator]: texts };
}
