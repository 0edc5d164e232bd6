import { expect, it } from 'vitest';
import { visible } from './visible.ts';

it('leaves letters, lines and tabs, and shows what a terminal would obey', () => {
  expect(visible('a\tb\nGrüße 你好 ─')).toBe('a\tb\nGrüße 你好 ─');
  expect(visible('\u001b[31mevil\u0007\r\u009b2J\u007f')).toBe(
    '\\u001b[31mevil\\u0007\\u000d\\u009b2J\\u007f',
  );
  const value = { name: '\u001b[2J\u009b1m' };
  expect(JSON.parse(visible(JSON.stringify(value)))).toEqual(value);
});
