// The kernels of one WebAssembly module. Each exported function takes a range of independent items (`first` up to
// `last`), a scratch area of its thread, and pointers into the shared memory; results do not depend on how the range
// was cut. Matrices are transposed, [in, stride]: 16 output rows lie side by side and fill a tile. `stride` counts
// elements, a multiple of 16. Nothing here allocates.

export { factor } from './factor';
export { fit } from './fit';
export { blockDescents, blockLevels, blockScales, blockSpans } from './blocks';
export { compensate } from './compensate';
export { stepLatents } from './latents';
export { compensateLevels, compensateSigns, fitLevels, roundLevels } from './levels';
export { pack } from './pack';
export { descendParts, sweepParts } from './parts';
export { proximal, proximalCodes, proximalStart } from './proximal';
export { round } from './round';
export { stepRounding } from './rounding';
export { transpose } from './transpose';
