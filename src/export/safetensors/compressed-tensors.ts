/**
 * A model as compressed-tensors: every distinct way that matrices are quantized is a group of config.json, with the names
 * of its modules. src/models/quantized/compressed-tensors.ts reads it; https://github.com/vllm-project/compressed-tensors,
 * release 0.20, and vLLM were read for what they take.
 */

import { LapidaryError } from '../../base/errors.ts';
import type { Encoding } from '../../encodings/encoding.ts';
import type { Model } from '../../models/model.ts';
import { linearLayers, tables } from '../../models/size.ts';
import { floatScheme } from './compressed-floats.ts';
import { intScheme } from './compressed-integers.ts';
import type { CheckpointLayout, FloatName } from './folder.ts';
import type { StoredScheme } from './stored-scheme.ts';

/**
 * Undefined for dense matrices.
 * @param floats of scales
 * @throws LapidaryError on an encoding that the format does not hold
 */
export function schemeOf(encoding: Encoding, floats: FloatName): StoredScheme | undefined {
  if (encoding.bits >= 16) return undefined;
  const scheme = intScheme(encoding, floats) ?? floatScheme(encoding);
  if (scheme) return scheme;
  const [rows, columns] = encoding.shape;
  throw new LapidaryError({
    what: `compressed-tensors has no place for ${encoding.label}`,
    where: `matrix [${rows}, ${columns}]`,
    expected: 'integers in groups or whole rows, 8-bit integers with rounded inputs, FP8, NVFP4, MXFP4',
    found: encoding.label,
    fix: 'choose a method that makes these: gptq, awq, rtn',
  });
}

/** @throws LapidaryError on an architecture whose layers the format does not know, and on what it does not hold */
export function compressedTensorsLayout(model: Model, floats: FloatName): CheckpointLayout {
  checkLayers(model);
  const schemes = new Map<string, StoredScheme>();
  for (const [name, encoding] of model.matrices) {
    const scheme = schemeOf(encoding, floats);
    if (scheme) schemes.set(name, scheme);
  }
  const groups = groupsOf(schemes);
  const formats = [...new Set(groups.map(({ scheme }) => scheme.format))];
  const mixed = formats.length > 1;
  const configGroups = groups.map(({ names, scheme }, i) => [
    `group_${i}`,
    {
      // One group is for all that multiply; what is left out of it is named below.
      targets: groups.length === 1 ? ['Linear'] : names,
      weights: scheme.weights,
      input_activations: scheme.inputs ?? null,
      output_activations: null,
      ...(mixed ? { format: scheme.format } : {}),
    },
  ]);
  return {
    settings: {
      quantization_config: {
        quant_method: 'compressed-tensors',
        format: mixed ? 'mixed-precision' : (formats[0] ?? 'dense'),
        quantization_status: 'compressed',
        config_groups: Object.fromEntries(configGroups),
        ignore: denseLayers(model),
        kv_cache_scheme: null,
        global_compression_ratio: null,
      },
    },
    tensorsOf: (name) => schemes.get(name)?.tensors,
    type: [...new Set(groups.map(({ scheme }) => scheme.type))].join('+') || floats,
  };
}

interface Group {
  readonly names: string[];
  readonly scheme: StoredScheme;
}

function groupsOf(schemes: ReadonlyMap<string, StoredScheme>): Group[] {
  const groups = new Map<string, Group>();
  for (const [name, scheme] of schemes) {
    const key = keyOf(scheme);
    const group = groups.get(key) ?? { names: [], scheme };
    groups.set(key, group);
    group.names.push(name);
  }
  return [...groups.values()];
}

const keyOf = (scheme: StoredScheme | undefined): string =>
  JSON.stringify([scheme?.format, scheme?.weights, scheme?.inputs]);

/** Layers that multiply with floats; a tied head is a module of its own there. */
function denseLayers(model: Model): string[] {
  const lookedUp = tables(model);
  const names = linearLayers(model).flatMap(({ name, encoding }) =>
    encoding.bits >= 16 && !lookedUp.has(name) ? [name] : [],
  );
  return [...new Set([...names, 'lm_head'])];
}

/** The format knows layers by the name of their class, "Linear"; others (GPT-2's) store their matrices turned. */
function checkLayers({ architecture, config, matrices }: Model): void {
  for (const name of matrices.keys()) {
    if (!architecture.transposed?.(name)) continue;
    throw new LapidaryError({
      what: `compressed-tensors does not know the layers of ${config.modelType}`,
      where: name,
      expected: 'matrices stored as [out, in]',
      found: 'the class "Conv1D", [in, out]',
      fix: 'write another format: --format gguf, or onnx',
    });
  }
}

/** What engines do not take, of what the format holds. */
export function engineNotes(model: Model, floats: FloatName): string[] {
  const schemeKey = (name: string) => keyOf(schemeOf(model.matrices.get(name)!, floats));
  const notes = new Set<string>();
  model.config.layers.forEach((_, layer) => {
    for (const { readers } of model.architecture.structure(model.config, layer).norms) {
      const keys = new Set(readers.map(({ matrix }) => schemeKey(matrix)));
      if (keys.size > 1)
        notes.add(
          'vLLM multiplies query, key and value at once, and gate and up, and takes no different schemes there; transformers does.',
        );
    }
  });
  for (const { description, tensors } of model.matrices.values()) {
    const { kind, bits, group } = description;
    if (kind === 'levels' && floats !== 'bfloat16' && tensors.get('scales')!.dtype === 'uint8') {
      notes.add(
        'transformers decompresses these numbers into bfloat16, and multiplies them with nothing else: load with dequantize=True, or write with --floats BF16.',
      );
    }
    if (kind !== 'grouped') continue;
    if (group === 16 || group === 256) {
      notes.add(
        `vLLM's kernels have groups of 32, 64, 128 and whole rows, none of ${group}; transformers takes them.`,
      );
    }
    if (tensors.has('zeros')) {
      notes.add(
        'vLLM loads the zero points; transformers (5.23, compressed-tensors 0.20) only with CompressedTensorsConfig(dequantize=True). With symmetric: true it needs nothing.',
      );
    }
    // Three bits with zero points are stored in four.
    if (bits === 2 || (bits === 3 && !tensors.has('zeros'))) {
      notes.add(
        `vLLM (0.32) loads ${bits}-bit integers, but multiplies them only with the package humming, on NVIDIA's GPUs; transformers takes them.`,
      );
    }
    if (bits === 8 && tensors.has('zeros')) {
      notes.add(
        "vLLM's kernels (0.32) multiply 8-bit integers with zero points on Hopper GPUs alone; those of symmetric: true on all.",
      );
    }
  }
  return [...notes];
}
