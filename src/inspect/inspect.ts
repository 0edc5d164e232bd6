/** What is in a model, whether it can be compressed here or not: `lapidary inspect` prints it. Reads headers, no weights. */

import type { Problem } from '../base/errors.ts';
import { ExitCode, LapidaryError } from '../base/errors.ts';
import type { Origin } from '../io/origin.ts';
import { withoutAddress } from '../io/hub-id.ts';
import { exitName } from '../models/exits.ts';
import type { OpenOptions } from '../open.ts';
import { isShipped, openWeights, shipped } from '../open.ts';
import type { Container, Contents } from './contents.ts';
import { contentsOf, headersOf } from './contents.ts';
import type { InspectedLayer } from './layers.ts';
import { layersOf, placesOf } from './layers.ts';
import type { MadeBy } from './made-by.ts';
import { madeBy } from './made-by.ts';
import type { Settings } from './settings.ts';
import type { InspectedTensor } from './tensor.ts';

export type { InspectedLayer, InspectedTensor, MadeBy };

/** What is stored as one type, over the whole model. */
export interface InspectedType {
  readonly label: string;
  readonly tensors: number;
  readonly parameters: number;
  readonly bytes: number;
}

export interface Inspection extends Omit<Settings, 'layers'>, Origin {
  readonly model: string;
  readonly container: Container;
  /** Why `compress` refuses it; missing where it does not. */
  readonly refused?: Omit<Problem, 'cause'> | undefined;
  /** Of all files that an engine loads, or of the weights of a checkpoint. */
  readonly bytes: number;
  /** Weights, however they are encoded; of unknown quantizations elements as they are stored. */
  readonly parameters: number;
  readonly bitsPerWeight: number;
  /** Of one token; missing where nobody knows what is multiplied. */
  readonly multiplyAdds?: number | undefined;
  readonly chatTemplate: boolean;
  readonly madeBy?: MadeBy | undefined;
  /** Most bytes first. */
  readonly types: readonly InspectedType[];
  readonly layers: readonly InspectedLayer[];
  readonly tensors: readonly InspectedTensor[];
}

/**
 * Looks into a checkpoint, a GGUF file, an exported folder, one ONNX or safetensors file, of any architecture.
 * @param location folder, hub id or file; the model that ships with the package without it
 * @throws LapidaryError where there is no model, or its headers cannot be read
 */
export async function inspect(location?: string, options: OpenOptions = {}): Promise<Inspection> {
  const place = location === undefined ? undefined : withoutAddress(location);
  const { refused, ...contents } = await look(place, options);
  const { name, container, settings, cost, chatTemplate, origin, producer, folder, file } = contents;
  const { layers: plans, ...sizes } = settings;
  // Exits are numbered, but are no layers.
  const exits = (settings.exits ?? []).map((layer) => `${exitName(layer)}.`);
  const isInLayers = ({ name }: InspectedTensor) => !exits.some((exit) => name.startsWith(exit));
  const at = placesOf(contents.tensors.filter(isInLayers).map((tensor) => tensor.name));
  const tensors = contents.tensors.map(({ name: own, ...rest }) => {
    const layer = at(own)?.layer;
    return { name: own, ...(layer === undefined ? {} : { layer }), ...rest };
  });
  return {
    model: name,
    container,
    ...(refused ? { refused } : {}),
    ...sizes,
    ...cost,
    chatTemplate,
    ...origin,
    madeBy: madeBy(folder, file, producer),
    types: typesOf(tensors),
    layers: layersOf(tensors.filter(isInLayers), plans),
    tensors,
  };
}

/** By our own reading where there is one, else by headers alone. */
async function look(
  place: string | undefined,
  options: OpenOptions,
): Promise<Contents & Pick<Inspection, 'refused'>> {
  try {
    const opened = await openWeights(place, options);
    return contentsOf(opened, isShipped(place) ? shipped.folder : place);
  } catch (error) {
    const isInput = error instanceof LapidaryError && error.exitCode === ExitCode.input;
    if (!isInput || place === undefined) throw error;
    const contents = await headersOf(place, options).catch(() => {
      throw error;
    });
    const { cause: _, ...refused } = error.problem;
    return { ...contents, refused };
  }
}

function typesOf(tensors: readonly InspectedTensor[]): InspectedType[] {
  const types = new Map<string, InspectedType>();
  for (const { label, parameters, bytes } of tensors) {
    const before = types.get(label) ?? { label, tensors: 0, parameters: 0, bytes: 0 };
    types.set(label, {
      label,
      tensors: before.tensors + 1,
      parameters: before.parameters + parameters,
      bytes: before.bytes + bytes,
    });
  }
  return [...types.values()].sort((a, b) => b.bytes - a.bytes);
}
