/**
 * Pages in headless Chromium, looked at from outside over its debugging pipe (the Chrome DevTools Protocol): what they
 * ask of the network, what goes wrong in them, how they look at a size and in a colour scheme.
 */

import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { pathToFileURL } from 'node:url';
import { chromium, flags } from './chromium.ts';

export interface PageOptions {
  /** In CSS pixels; below 600 as a phone. */
  readonly width: number;
  readonly scheme: 'light' | 'dark';
}

export interface Page {
  /** Errors on its console, exceptions, and what its security policy refused. */
  readonly problems: readonly string[];
  /** Addresses that it asked for, its own first. */
  readonly requests: readonly string[];
  /** Value of an expression, as JSON. */
  evaluate(expression: string): Promise<unknown>;
  /** All of the page as a PNG, or so many pixels of its beginning. */
  screenshot(path: string, height?: number): Promise<void>;
  /** Taps or clicks the middle of the first element that a selector finds. */
  click(selector: string): Promise<void>;
  close(): Promise<void>;
}

export interface Browser {
  open(file: string, options: PageOptions): Promise<Page>;
  close(): Promise<void>;
}

type Message = {
  readonly id?: number;
  readonly method?: string;
  readonly sessionId?: string;
  readonly params?: Record<string, any>;
  readonly result?: Record<string, any>;
  readonly error?: { readonly message: string };
};

export async function openBrowser(): Promise<Browser> {
  const profile = await mkdtemp(join(tmpdir(), 'lapidary-pages-'));
  const child = spawn(
    chromium as string,
    [...flags, '--remote-debugging-pipe', `--user-data-dir=${profile}`],
    {
      detached: true,
      stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'],
    },
  );
  const { send, listen } = protocol(child.stdio[3] as Writable, child.stdio[4] as Readable);
  return {
    open: (file, options) => openPage(file, options, send, listen),
    async close() {
      if (child.pid && child.exitCode === null) process.kill(-child.pid, 'SIGKILL');
      await rm(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
    },
  };
}

type Send = (method: string, params?: object, sessionId?: string) => Promise<Record<string, any>>;
type Listen = (listener: (message: Message) => void) => void;

/** Messages are JSON, each ended by a zero byte. */
function protocol(to: Writable, from: Readable): { readonly send: Send; readonly listen: Listen } {
  const waiting = new Map<number, (message: Message) => void>();
  const listeners: ((message: Message) => void)[] = [];
  let id = 0;
  let rest = '';
  from.setEncoding('utf8');
  from.on('data', (data: string) => {
    const messages = (rest + data).split('\0');
    rest = messages.pop()!;
    for (const text of messages) {
      const message = JSON.parse(text) as Message;
      if (message.id === undefined) for (const listener of listeners) listener(message);
      else waiting.get(message.id)?.(message);
    }
  });
  const send: Send = (method, params = {}, sessionId) =>
    new Promise((resolve, reject) => {
      waiting.set(++id, ({ result, error }) =>
        error ? reject(new Error(`${method}: ${error.message}`)) : resolve(result ?? {}),
      );
      to.write(`${JSON.stringify({ id, method, params, ...(sessionId ? { sessionId } : {}) })}\0`);
    });
  return { send, listen: (listener) => listeners.push(listener) };
}

async function openPage(
  file: string,
  { width, scheme }: PageOptions,
  send: Send,
  listen: Listen,
): Promise<Page> {
  const { targetId } = await send('Target.createTarget', { url: 'about:blank' });
  const { sessionId } = await send('Target.attachToTarget', { targetId, flatten: true });
  const tell = (method: string, params: object = {}) => send(method, params, sessionId);
  const { problems, requests, load } = watch(sessionId, listen);
  for (const domain of ['Page', 'Runtime', 'Network', 'Log']) await tell(`${domain}.enable`);
  const size = { width, height: 900, deviceScaleFactor: 1, mobile: width < 600 };
  await tell('Emulation.setDeviceMetricsOverride', size);
  await tell('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: scheme }] });
  await tell('Page.navigate', { url: pathToFileURL(file).href });
  await load;

  async function evaluate(expression: string): Promise<unknown> {
    const options = { expression, awaitPromise: true, returnByValue: true };
    const { result, exceptionDetails } = await tell('Runtime.evaluate', options);
    if (exceptionDetails) throw new Error(`in the page: ${JSON.stringify(exceptionDetails)}`);
    return result.value;
  }
  /** Figures are drawn when their size is known: a frame later. */
  const settled = () =>
    evaluate('new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done())))');
  await settled();
  return {
    problems,
    requests,
    evaluate,
    async screenshot(path, height) {
      const clip = height === undefined ? {} : { clip: { x: 0, y: 0, width, height, scale: 1 } };
      const { data } = await tell('Page.captureScreenshot', { captureBeyondViewport: true, ...clip });
      await writeFile(path, Buffer.from(data, 'base64'));
    },
    async click(selector) {
      const found = await evaluate(
        `(() => { const e = document.querySelector(${JSON.stringify(selector)}); e?.click(); return e !== null; })()`,
      );
      if (!found) throw new Error(`nothing to click: ${selector}`);
      await settled();
    },
    async close() {
      await send('Target.closeTarget', { targetId });
    },
  };
}

/** What happens in a page from now on. */
function watch(sessionId: string, listen: Listen) {
  const problems: string[] = [];
  const requests: string[] = [];
  let loaded = () => {};
  const load = new Promise<void>((resolve) => {
    loaded = resolve;
  });
  listen(({ method, params = {}, sessionId: from }) => {
    if (from !== sessionId) return;
    if (method === 'Page.loadEventFired') loaded();
    if (method === 'Network.requestWillBeSent') requests.push(params.request.url);
    if (method === 'Runtime.exceptionThrown') problems.push(JSON.stringify(params.exceptionDetails));
    if (method === 'Log.entryAdded' && params.entry.level === 'error') problems.push(params.entry.text);
    if (method === 'Runtime.consoleAPICalled' && /error|assert|warning/.test(params.type)) {
      problems.push(JSON.stringify(params.args));
    }
  });
  return { problems, requests, load };
}
