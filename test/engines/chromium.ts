/**
 * Runs a script in headless Chromium against files of this machine, with nothing between: a server on 127.0.0.1
 * hands out folders, the page posts its answer back.
 */

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { extname, join, normalize } from 'node:path';
import { patience } from '../patience.ts';

/** The browser, or undefined where there is none. */
export const chromium = [
  process.env.CHROMIUM,
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
].find((path) => path !== undefined && existsSync(path));

export const flags = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

const types: Record<string, string> = {
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.mjs': 'text/javascript',
  '.wasm': 'application/wasm',
  '.json': 'application/json',
};

/**
 * @param script body of an async function in a module of the page; what it returns comes back as JSON.
 *   "@huggingface/transformers" is what is served as /transformers/transformers.min.js.
 * @param folders folders to serve, by the first part of their address: "model" for /model/config.json.
 * @throws Error with the page's own error, or when nothing came back in time.
 */
export async function runInChromium(
  script: string,
  folders: Readonly<Record<string, string>>,
): Promise<unknown> {
  const answer = deferred<string>();
  const server = createServer((request, response) => {
    serve(request, response, page(script), folders, answer.resolve).catch(answer.reject);
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  const profile = await mkdtemp(join(tmpdir(), 'lapidary-chromium-'));
  const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  // Debian's starter is a shell script that ends in the browser itself: one process group, ended as one.
  const browser = spawn(chromium as string, [...flags, `--user-data-dir=${profile}`, address], {
    detached: true,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const log: string[] = [];
  browser.stderr.on('data', (data) => log.push(String(data)));
  browser.on('error', answer.reject);
  browser.on('exit', (code) =>
    answer.reject(new Error(`the browser ended (${code}): ${log.join('').slice(-2000)}`)),
  );
  const timer = setTimeout(
    () => answer.reject(new Error(`no answer from the page: ${log.join('').slice(-2000)}`)),
    patience,
  );
  try {
    const { error, result } = JSON.parse(await answer.promise);
    if (error) throw new Error(`in the page: ${error}`);
    return result;
  } finally {
    clearTimeout(timer);
    if (browser.pid && browser.exitCode === null) process.kill(-browser.pid, 'SIGKILL');
    server.closeAllConnections();
    server.close();
    await rm(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  }
}

interface Deferred<T> {
  readonly promise: Promise<T>;
  readonly resolve: (value: T) => void;
  readonly reject: (reason: unknown) => void;
}

function deferred<T>(): Deferred<T> {
  let settle: Omit<Deferred<T>, 'promise'> | undefined;
  const promise = new Promise<T>((resolve, reject) => {
    settle = { resolve, reject };
  });
  return { promise, ...(settle as Omit<Deferred<T>, 'promise'>) };
}

function page(script: string): string {
  return `<!doctype html><title>test</title>
<script type="importmap">{ "imports": { "@huggingface/transformers": "/transformers/transformers.min.js" } }</script>
<script type="module">
const run = async () => {
${script}
};
const answer = await run().then((result) => ({ result }), (error) => ({ error: String(error?.stack ?? error) }));
await fetch('/answer', { method: 'POST', body: JSON.stringify(answer) });
</script>`;
}

async function serve(
  request: IncomingMessage,
  response: ServerResponse,
  html: string,
  folders: Readonly<Record<string, string>>,
  answered: (body: string) => void,
): Promise<void> {
  const path = normalize(decodeURIComponent(new URL(request.url ?? '/', 'http://page').pathname));
  if (request.method === 'POST' && path === '/answer') {
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part);
    response.end();
    answered(Buffer.concat(parts).toString());
    return;
  }
  if (path === '/') {
    response.writeHead(200, { 'content-type': 'text/html' }).end(html);
    return;
  }
  const [, first, ...rest] = path.split('/');
  const file = folders[first] && join(folders[first], ...rest);
  const data = file ? await readFile(file).catch(() => undefined) : undefined;
  if (!data) {
    response.writeHead(404).end();
    return;
  }
  const type = types[extname(path)] ?? 'application/octet-stream';
  response.writeHead(200, { 'content-type': type, 'content-length': data.length }).end(data);
}
