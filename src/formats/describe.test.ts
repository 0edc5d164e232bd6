/** What people are told of methods is what the methods and formats say themselves. */

import { describe, expect, it } from 'vitest';
import { findMethod, methods } from '../methods/index.ts';
import { openForCompression } from '../open.ts';
import { defaultOf, describeMethod, formatsOf, rangeOf } from './describe.ts';

describe.each(methods.map((method) => [method.name, method] as const))('%s', (name, method) => {
  it('has a family, a sentence, and an example that names it', () => {
    const told = describeMethod(method);
    expect(told.family).not.toBe('');
    expect(told.summary).toMatch(/[.]$/);
    expect(told.example).toContain(name);
    expect(told.example.includes('--calibration')).toBe(
      told.needs.startsWith('calibration') || /[+]gptq/.test(told.example),
    );
  });

  it('tells of every option what it may be and what it is for', () => {
    for (const option of describeMethod(method).options) {
      expect(rangeOf(option), option.name).not.toBe('');
      expect(option.help, option.name).not.toBe('');
    }
  });
});

it('says which formats hold what a method makes, and why others do not', async () => {
  const model = await openForCompression(undefined, {});
  const answers = async (name: string) =>
    Object.fromEntries(
      (await formatsOf(findMethod(name), model)).map(({ format, refused }) => [format, refused]),
    );
  expect(await answers('rtn')).toEqual({
    onnx: undefined,
    gguf: undefined,
    'compressed-tensors': undefined,
    gptq: undefined,
    awq: undefined,
    mlx: undefined,
  });
  const binary = await answers('binary');
  expect(binary.onnx).toBeUndefined();
  expect(binary.gguf).toMatch(/no blocks for binary/);
  const mixed = await answers('llm-int8');
  expect(mixed.mlx).toMatch(/8-bit/);
});

it('writes switches as on and off', () => {
  const find = (method: string, name: string) =>
    describeMethod(findMethod(method)).options.find((option) => option.name === name)!;
  expect([rangeOf(find('gptq', 'sequential')), defaultOf(find('gptq', 'sequential'))]).toEqual([
    'on or off',
    'on',
  ]);
  expect([rangeOf(find('awq', 'duo')), defaultOf(find('awq', 'duo'))]).toEqual(['true, false, both', 'true']);
});
