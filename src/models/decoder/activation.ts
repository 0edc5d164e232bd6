/** Activations by the words of config.json, in architectures that may have any of them. */

import type { Json } from '../settings.ts';
import { word } from '../settings.ts';
import type { Activation } from './traits.ts';

const known: Readonly<Record<string, Activation>> = {
  gelu: 'gelu',
  gelu_new: 'gelu tanh',
  gelu_fast: 'gelu tanh',
  gelu_pytorch_tanh: 'gelu tanh',
  relu: 'relu',
  silu: 'silu',
  swish: 'silu',
};

/** @throws LapidaryError on one that is not computed here, naming the key */
export const activationAt =
  (key: string, absent: string) =>
  (json: Json): Activation =>
    known[word(json, key, Object.keys(known), absent)];
