import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { shellWord } from './shell.ts';

describe('shellWord', () => {
  it('leaves plain paths as they are', () => {
    expect(shellWord('./runs/a-4bit')).toBe('./runs/a-4bit');
  });

  it('does not let a path be taken for a flag', () => {
    expect(shellWord('-out')).toBe('./-out');
  });

  it.skipIf(process.platform === 'win32').each(['a b', "it's", 'q"uote', '$(echo x)', 'ünï→日本', '`a`\n*'])(
    'gives %j as one word',
    (text) => {
      expect(execFileSync('sh', ['-c', `printf %s ${shellWord(text)}`], { encoding: 'utf8' })).toBe(text);
    },
  );
});
