/** Blocks as ggml defines them: types, matrices stored in them, and quantizing to them. */

export { blockEncoding, quantizeTo } from './encoding.ts';
export { blocksOf } from './from-grouped.ts';
export { blockTypeFor, blockTypeNamed, blockTypes } from './table.ts';
export { inGroups } from './to-groups.ts';
export type { BlockParameters, BlockType } from './type.ts';
