/** What a compress run will take, said before it starts: memory by phase and bytes on the disk. */

import type { DiskPlan } from './plan/disk.ts';
import { planDisk } from './plan/disk.ts';
import type { PlanInput } from './plan/facts.ts';
import { factsOf } from './plan/facts.ts';
import type { MemoryPlan } from './plan/memory.ts';
import { planMemory } from './plan/memory.ts';

export { checkDisk } from './plan/disk.ts';
export { memoryWarning } from './plan/memory.ts';

export interface Plan {
  readonly memory: MemoryPlan;
  readonly disk: DiskPlan;
}

/** Takes seconds at most: no weights are read. */
export async function planRun(input: PlanInput): Promise<Plan> {
  const facts = await factsOf(input);
  return { memory: planMemory(facts), disk: planDisk(facts) };
}
