/**
 * node-llama-cpp as child.js asks for it, without the trial of its binary, for which it starts one more process each
 * time. For tests that ask llama.cpp often; those of the command line, and of finding it, go the whole way.
 */

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const installed = join(dirname(fileURLToPath(import.meta.url)), 'node_modules');
const binaries = join(installed, '@node-llama-cpp', 'linux-x64', 'bins', 'linux-x64');
const bindingPath = join(binaries, 'llama-addon.node');
/** @param {string} name */
const part = (name) => import(join(installed, 'node-llama-cpp', 'dist', 'bindings', name));
const { Llama } = await part('Llama.js');
export const { LlamaLogLevel } = await part('types.js');

/** @param {{ maxThreads?: number, logLevel: unknown, logger: unknown }} options */
export const getLlama = ({ maxThreads, logLevel, logger }) =>
  Llama._create({
    bindings: createRequire(import.meta.url)(bindingPath),
    bindingPath,
    buildType: 'prebuilt',
    buildMetadata: JSON.parse(readFileSync(join(binaries, '_nlcBuildMetadata.json'), 'utf8')),
    logLevel,
    logger,
    maxThreads,
    vramPadding: 0,
    ramPadding: 0,
    debug: false,
    numa: false,
    tempDir: false,
  });
