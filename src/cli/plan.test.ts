import { expect, it } from 'vitest';
import type { Plan } from '../plan/plan.ts';
import { describePlan } from './plan.ts';

const walk = {
  phase: 'compress the blocks',
  bytes: 3e8,
  parts: [
    { what: 'hidden states', bytes: 1e8 },
    { what: 'work', bytes: 2e8 },
  ],
  less: 'less text',
};
const plan: Plan = {
  memory: { phases: [walk], largest: walk.phase, bytes: walk.bytes, machine: 16e9 },
  disk: { parts: [{ what: 'the result', bytes: 5e6 }], bytes: 5e6, free: 1e9, where: 'somewhere' },
};

it('shows a plan as tables: phases with their parts, the largest, and the disk', () => {
  expect(describePlan(plan)).toMatch(
    /compress the blocks +300 MB\n {2}hidden states +100 MB\n {2}work +200 MB\n\nMost: 300 MB to compress the blocks, of 16\.0 GB here\.\n(.|\n)*the result +5\.00 MB\n\nTogether: 5\.00 MB in somewhere, where 1\.00 GB are free\./,
  );
});

it('says nothing of free room where the system does not', () => {
  expect(describePlan({ ...plan, disk: { ...plan.disk, free: undefined } })).toMatch(
    /Together: 5\.00 MB in somewhere\.$/,
  );
});
