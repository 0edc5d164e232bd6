/** A step of a recipe as one line of text, and back. */

import { describe, expect, it } from 'vitest';
import { LapidaryError } from '../base/errors.ts';
import type { Method, StepInput } from '../contract/method.ts';
import { methods } from '../methods/index.ts';
import { checkRecipe } from './recipe.ts';
import { parseStepText, stepText } from './step-text.ts';
import { compresses } from './steps.ts';

const problem = (text: string) => {
  try {
    parseStepText(text, '--step 2');
  } catch (error) {
    if (error instanceof LapidaryError) return error;
    throw error;
  }
  throw new Error(`${text} was read`);
};

describe('a step as text', () => {
  it('is a method with its options', () => {
    expect(parseStepText('gptq bits=4 group=32')).toEqual({ method: 'gptq', bits: 4, group: 32 });
    expect(parseStepText('  rtn  ')).toEqual({ method: 'rtn' });
    expect(parseStepText('ggml type=Q4_K_M')).toEqual({ method: 'ggml', type: 'Q4_K_M' });
  });

  it('takes names as recipes and as flags have them', () => {
    for (const name of ['codeRate', 'code-rate'])
      expect(parseStepText(`block-ap ${name}=1e-5`)).toEqual({ method: 'block-ap', codeRate: 1e-5 });
  });

  it('has switches on by their names alone, or with a value', () => {
    expect(parseStepText('rtn symmetric')).toEqual({ method: 'rtn', symmetric: true });
    expect(parseStepText('rtn symmetric=false')).toEqual({ method: 'rtn', symmetric: false });
    expect(parseStepText('awq duo=both')).toEqual({ method: 'awq', duo: 'both' });
  });

  it('has targets as recipes name them, with commas between', () => {
    expect(parseStepText('rtn bits=8 targets=first:2,lm_head').targets).toEqual(['first:2', 'lm_head']);
    expect(parseStepText('rtn targets=*.{q_proj,k_proj},sensitive:10%').targets).toEqual([
      '*.{q_proj,k_proj}',
      'sensitive:10%',
    ]);
  });

  it.each([
    ['', 'a step begins with a method'],
    ['bits=4 gptq', 'a step begins with a method'],
    ['gtpq bits=4', 'did you mean "gptq"?'],
    ['awq+gptq bits=4', 'one step for each of awq, gptq'],
    ['gptq bitz=4', 'did you mean "bits"?'],
    ['gptq target=head', 'did you mean "targets"?'],
    ['awq targets=head', 'unknown option "targets"'],
    ['gptq bits=5', 'one of 2, 3, 4, 8'],
    ['gptq bits', 'option "bits" has no value'],
    ['gptq bits=', 'option "bits" does not fit'],
    ['gptq bits=4 bits=8', 'bits is given twice'],
    ['gptq symmetric=maybe', 'option "symmetric" does not fit'],
    ['gptq no-sequential', 'write sequential=false'],
    ['rtn targets=', 'targets are left out'],
  ])('%j is refused by the step and what is wrong in it', (text, what) => {
    const { message, exitCode } = problem(text);
    expect(message).toContain(what);
    expect(message).toContain('--step 2');
    expect(exitCode).toBe(2);
  });
});

it.each(methods.map((method) => [method.name, method] as const))(
  '%s is read back as it was written',
  (name, method) => {
    const targets = compresses(method) ? { targets: ['first:2', 'head'] } : {};
    const own = checkRecipe({ steps: [...before(method), { method: name, ...targets }] }).steps.at(-1)!;
    const again = [...before(method), parseStepText(stepText(own))];
    expect(checkRecipe({ steps: again }).steps.at(-1)).toEqual(own);
  },
);

/** What a training needs before it. */
const before = (method: Method): readonly StepInput[] =>
  method.shape === 'train' && !compresses(method) ? [{ method: 'rtn' }] : [];
