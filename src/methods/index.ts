/** The methods that recipes can name. Adding one is a line here and its own file. */

import { closest, distance } from 'fastest-levenshtein';
import { ExitCode, LapidaryError } from '../base/errors.ts';
import type { Method } from './contract.ts';
import { autoround } from './quantize/autoround.ts';
import { awq } from './quantize/awq.ts';
import { binary } from './quantize/binary.ts';
import { blockAp } from './quantize/block-ap.ts';
import { e2eQp } from './quantize/e2e-qp.ts';
import { ggml } from './quantize/ggml.ts';
import { gptq } from './quantize/gptq.ts';
import { hqq } from './quantize/hqq.ts';
import { keep } from './quantize/keep.ts';
import { llmInt8 } from './quantize/llm-int8.ts';
import { owq } from './quantize/owq.ts';
import { quarot } from './quantize/quarot.ts';
import { rtn } from './quantize/rtn.ts';
import { smoothquant } from './quantize/smoothquant.ts';
import { spinquant } from './quantize/spinquant.ts';
import { spqr } from './quantize/spqr.ts';
import { w4a8 } from './quantize/w4a8.ts';
import { w8a8 } from './quantize/w8a8.ts';

/** By family: a folder beside this file. */
export const families: Readonly<Record<string, readonly Method[]>> = {
  quantization: [
    gptq,
    autoround,
    awq,
    binary,
    blockAp,
    e2eQp,
    ggml,
    hqq,
    keep,
    llmInt8,
    owq,
    quarot,
    rtn,
    smoothquant,
    spinquant,
    spqr,
    w4a8,
    w8a8,
  ],
};

export const methods: readonly Method[] = Object.values(families).flat();

/** The family that a method stands in: "quantization". */
export const familyOf = (method: Method): string =>
  Object.entries(families).find(([, own]) => own.includes(method))![0];

/** @throws LapidaryError for an unknown name, with the nearest known one. */
export function findMethod(name: string): Method {
  const found = methods.find((method) => method.name === name);
  if (found) return found;
  const names = methods.map((method) => method.name);
  const near = closest(name, names);
  throw new LapidaryError(
    {
      what: `there is no method "${name}"`,
      expected: names.join(', '),
      ...(distance(name, near) <= 3 ? { fix: `did you mean "${near}"?` } : {}),
    },
    ExitCode.usage,
  );
}
