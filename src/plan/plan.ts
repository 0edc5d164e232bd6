/** What a compress run will take, said before it starts: memory by phase and bytes on the disk. */

import type { DiskPlan } from './disk.ts';
import { planDisk } from './disk.ts';
import type { PlanInput } from './facts.ts';
import { factsOf } from './facts.ts';
import type { MemoryPlan } from './memory.ts';
import { planMemory } from './memory.ts';

export { checkDisk } from './disk.ts';
export { memoryWarning } from './memory.ts';

export interface Plan {
  readonly memory: MemoryPlan;
  readonly disk: DiskPlan;
}

/** Takes seconds at most: no weights are read. */
export async function planRun(input: PlanInput): Promise<Plan> {
  const facts = await factsOf(input);
  return { memory: planMemory(facts), disk: planDisk(facts) };
}
