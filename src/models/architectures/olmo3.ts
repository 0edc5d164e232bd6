/** OLMo 3 (OLMo Team 2025): OLMo 2 with windows in three of four layers, whose rotation is not scaled. */

import { decoder } from '../decoder/decoder.ts';
import { ropesByWindow } from '../rope.ts';
import type { Json } from '../settings.ts';
import { typedWindows } from '../windows.ts';
import { olmoTraits } from './olmo2.ts';

export const olmo3 = decoder({
  ...olmoTraits,
  modelType: 'olmo3',
  className: 'Olmo3',
  absent: { ...olmoTraits.absent, sliding_window: 4096 },
  windows,
  ropes(json, layers) {
    const full: Json = { rope_theta: 5e5, ...json };
    const sliding = { rope_theta: full.rope_theta };
    return ropesByWindow(json, windows(json, layers), { full, sliding });
  },
});

function windows(json: Json, layers: number) {
  return typedWindows(json, layers, (layer) => (layer + 1) % 4 === 0);
}
