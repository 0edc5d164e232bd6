/**
 * Loaded before the command line (node --import): ends the process by SIGKILL at its n-th step of writing, in the middle
 * of a write, before or after a folder is made, flushed, moved or removed. What is on the disk then is what any kill
 * can leave. Steps are counted alike in equal runs.
 */

import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';

const { KILL_AT = '0', COUNT_TO = '' } = process.env;
const original = { ...fs };
let steps = 0;

function step() {
  steps++;
  if (steps === Number(KILL_AT)) process.kill(process.pid, 'SIGKILL');
}

/** @param {'mkdirSync' | 'fsyncSync' | 'renameSync' | 'rmSync'} name */
function watch(name) {
  /** @param {any[]} args */
  const watched = (...args) => {
    step();
    const result = Reflect.apply(original[name], fs, args);
    step();
    return result;
  };
  Object.assign(fs, { [name]: watched });
}

watch('mkdirSync');
watch('fsyncSync');
watch('renameSync');
watch('rmSync');
Object.assign(fs, {
  /**
   * @param {number} file
   * @param {Uint8Array} bytes
   * @param {number} [offset]
   * @param {number} [length]
   */
  writeSync(file, bytes, offset = 0, length = bytes.byteLength - offset) {
    const half = Math.floor(length / 2);
    const done = half > 0 ? original.writeSync(file, bytes, offset, half) : 0;
    step();
    return done + original.writeSync(file, bytes, offset + done, length - done);
  },
});
syncBuiltinESMExports();

if (COUNT_TO) process.on('exit', () => original.writeFileSync(COUNT_TO, String(steps)));
