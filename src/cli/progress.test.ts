import { describe, expect, it } from 'vitest';
import { drawProgress } from './progress.ts';

function output(isTTY: boolean, columns = 80) {
  const written: string[] = [];
  return { isTTY, columns, written, write: (text: string) => written.push(text) };
}

describe('progress', () => {
  it('on a terminal is one line that is drawn over, within its width, and stays as the phase and its time', () => {
    const terminal = output(true, 30);
    const { progress, finish } = drawProgress(terminal);
    progress({ phase: 'compress', done: 0, total: 4, detail: 'model.layers.0.self_attn.q_proj' });
    finish();
    const [drawn, erased, line] = terminal.written;
    const shown = drawn!.replace('\r\x1b[K', '');
    expect(shown).toMatch(/^compress ░+ 0% /);
    expect(shown.length).toBeLessThan(30);
    expect([erased, line]).toEqual(['\r\x1b[K', expect.stringMatching(/^compress: \d+\.\d s\n$/)]);
  });

  it('makes room on a terminal for a line of its own, and is drawn again behind it', () => {
    const terminal = output(true, 40);
    const { progress, say } = drawProgress(terminal);
    progress({ phase: 'compress', done: 1, total: 4 });
    say('warning: the disk is nearly full');
    progress({ phase: 'compress', done: 2, total: 4 });
    expect(terminal.written.slice(1)).toEqual([
      '\r\x1b[Kwarning: the disk is nearly full\n',
      expect.stringContaining('\r\x1b[Kcompress ██████░░░░░░ 50%'),
    ]);
  });

  it('does not take what an earlier run did for its own speed', () => {
    const terminal = output(true, 100);
    const { progress } = drawProgress(terminal);
    progress({ phase: 'compress', done: 50, total: 100 });
    expect(terminal.written.at(-1)).toMatch(/ 50% *$/);
  });

  it('elsewhere is one line a phase, also when the same phase begins again', () => {
    const log = output(false);
    const { progress, finish } = drawProgress(log);
    for (const phase of ['compress', 'evaluate', 'evaluate']) {
      for (let done = 0; done <= 100; done++) progress({ phase, done, total: 100 });
    }
    finish();
    finish();
    const names = log.written.map((line) => line.replace(/: \d+\.\d s\n$/, ''));
    expect(names).toEqual(['compress', 'evaluate', 'evaluate']);
  });
});
