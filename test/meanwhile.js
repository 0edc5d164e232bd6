/**
 * Loaded before the command line (node --import): lets the world change in the middle of a run, always at the same
 * point. When a file whose path ends so is opened or moved there for the n-th time, a shell command runs first.
 */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';

/** @type {{ call: 'openSync' | 'renameSync', path: string, nth: number, run: string }} */
const { call, path, nth, run } = JSON.parse(process.env.MEANWHILE ?? '{}');
const original = { ...fs };
let seen = 0;

/** @param {any} place */
function reached(place) {
  if (String(place).endsWith(path) && ++seen === nth) spawnSync('sh', ['-c', run]);
}

Object.assign(fs, {
  /** @param {any[]} args */
  openSync(...args) {
    if (call === 'openSync') reached(args[0]);
    return Reflect.apply(original.openSync, fs, args);
  },
  /** @param {any[]} args */
  renameSync(...args) {
    if (call === 'renameSync') reached(args[1]);
    return Reflect.apply(original.renameSync, fs, args);
  },
});
syncBuiltinESMExports();
