/** Quantization: fewer bits a weight. */

import type { Family } from '../../contract/method.ts';
import { autoround } from './autoround.ts';
import { awq } from './awq.ts';
import { binary } from './binary.ts';
import { blockAp } from './block-ap.ts';
import { e2eQp } from './e2e-qp.ts';
import { ggml } from './ggml.ts';
import { gptq } from './gptq.ts';
import { hqq } from './hqq.ts';
import { keep } from './keep.ts';
import { llmInt8 } from './llm-int8.ts';
import { owq } from './owq.ts';
import { quarot } from './quarot.ts';
import { rtn } from './rtn.ts';
import { smoothquant } from './smoothquant.ts';
import { spinquant } from './spinquant.ts';
import { spqr } from './spqr.ts';
import { w4a8 } from './w4a8.ts';
import { w8a8 } from './w8a8.ts';

export const quantize = {
  name: 'quantize',
  title: 'Quantization',
  baseline: rtn,
  methods: [
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
} as const satisfies Family;
