import { describe, expect, it } from 'vitest';
import { LapidaryError } from './errors.ts';
import { checkValueDepth, maxDepth, parseJson, parseJsonObject, quoted, shortened } from './json.ts';

const nested = (depth: number, [open, close] = ['[', ']']) => open!.repeat(depth) + close!.repeat(depth);
const place = { where: 'a.json', fix: 'fetch it again' };

describe('JSON of strangers', () => {
  it('is read from text and bytes, with or without a mark before it', () => {
    expect(parseJson('{"a": [1, "]["]}', place)).toEqual({ a: [1, ']['] });
    expect(parseJson(Buffer.from('\uFEFF["\\"[", "ä"]'), place)).toEqual(['"[', 'ä']);
  });

  it('is nested up to the bound, lists and objects alike', () => {
    expect(parseJson(nested(maxDepth), place)).toHaveLength(1);
    for (const text of [nested(maxDepth + 1), nested(50_000), '{"a":'.repeat(5000) + '1' + '}'.repeat(5000)])
      expect(() => parseJson(text, place)).toThrow(/a\.json: .*nested too deeply[^]*at most 100[^]*to do/);
  });

  it('does not count brackets within text, nor trust those that never close', () => {
    expect(parseJson(`"${'['.repeat(1000)}"`, place)).toHaveLength(1000);
    expect(() => parseJson('['.repeat(maxDepth), place)).toThrow('a.json: this is not JSON');
    expect(() => parseJson(`"${'['.repeat(1000)}`, place)).toThrow(LapidaryError);
  });

  it('that is damaged is refused with its place, in few words', () => {
    for (const bytes of [Buffer.from([0x22, 0xff, 0x22]), '', '{"a"', `x${'y'.repeat(10_000)}`]) {
      const read = () => parseJson(bytes, place);
      expect(read).toThrow(LapidaryError);
      expect(read).toThrow(/^a\.json: [^]{1,400}$/);
    }
    expect(() => parseJsonObject('[1]', place)).toThrow(/not a JSON object\n.*one JSON object\n.*\[1\]/);
    expect(() => parseJsonObject('null', place)).toThrow('not a JSON object');
  });
});

describe('values in messages', () => {
  it('are cut, and may be nested within themselves or of no kind that JSON has', () => {
    const circular: unknown[] = [];
    circular.push(circular);
    expect(shortened(circular)).toBe('something of type object');
    expect(shortened(3n)).toBe('3');
    expect(shortened(undefined)).toBe('nothing');
    expect(shortened('y'.repeat(1000))).toHaveLength(203);
    expect(quoted('a')).toBe('"a"');
    expect(() => checkValueDepth(circular, place)).toThrow('nested too deeply');
  });
});
