/** `lapidary inspect`: what is in a model, on a screen: sizes, layers, where it is from; tensors where they are asked for. */

import { Command, Option } from 'commander';
import picomatch from 'picomatch';
import { ExitCode, LapidaryError } from '../base/errors.ts';
import type { InspectedLayer, InspectedTensor, Inspection, MadeBy } from '../inspect/inspect.ts';
import { inspect } from '../inspect/inspect.ts';
import { jsonOption, print, wholeNumber, withProgress } from './common.ts';
import { formatBytes, formatCount, table } from './table.ts';

interface Flags {
  readonly tensors?: boolean;
  readonly layer?: number;
  readonly name?: string;
  readonly revision?: string;
  readonly json?: boolean;
}

export function command(): Command {
  return new Command('inspect')
    .summary('what is in a model: layers, shapes, types, bytes, license')
    .description(
      'Shows what is in a checkpoint, an exported folder, or one GGUF, ONNX or safetensors file, by its headers; of any architecture.',
    )
    .argument('[model]', 'folder, hub id or file; left out: the model that ships with the package')
    .option('--tensors', 'list the tensors, too')
    .addOption(new Option('--layer <number>', 'list the tensors of this layer').argParser(wholeNumber))
    .option('--name <pattern>', 'list the tensors of this name, in which * stands for anything')
    .option('--revision <name>', 'branch, tag or commit of a hub id')
    .addOption(jsonOption())
    .addHelpText(
      'after',
      `
Examples:
  lapidary inspect
  lapidary inspect ./my-model --layer 0
  lapidary inspect model.gguf --name "*down_proj"
  lapidary inspect ./my-model --json`,
    )
    .action(async (location: string | undefined, { json, revision, ...flags }: Flags) => {
      const found = await withProgress((work) => inspect(location, { ...work, revision }));
      const tensors = wanted(found, flags);
      if (json) return print(JSON.stringify({ ...found, tensors: tensors ?? found.tensors }));
      print([...summary(found), '', ...layers(found), '', ...listed(tensors)].join('\n'));
    });
}

/** Undefined where nobody asks for any. @throws LapidaryError (usage) where there are none such */
function wanted({ tensors }: Inspection, flags: Flags): readonly InspectedTensor[] | undefined {
  const { layer, name } = flags;
  if (layer === undefined && name === undefined) return flags.tensors ? tensors : undefined;
  const matches = name === undefined ? () => true : picomatch(name, { bash: true });
  const found = tensors.filter(
    (tensor) => (layer === undefined || tensor.layer === layer) && matches(tensor.name),
  );
  if (found.length > 0) return found;
  throw new LapidaryError(
    {
      what: 'no tensor of this model is meant',
      where: [
        ...(layer === undefined ? [] : [`--layer ${layer}`]),
        ...(name ? [`--name "${name}"`] : []),
      ].join(' '),
      fix: '--tensors lists all of them',
    },
    ExitCode.usage,
  );
}

function summary(found: Inspection): string[] {
  const { model, modelType, architecture, chatTemplate, refused, layers, madeBy } = found;
  const rows: [string, string | undefined][] = [
    ['model', `${model} (${found.container})`],
    ['architecture', [...new Set([modelType, architecture])].filter(Boolean).join(', ') || 'not said'],
    ['layers', stacks(layers)],
    ['heads', heads(layers)],
    ['widths', widths(found)],
    ['convolutions', convolutions(layers)],
    ['experts', experts(layers)],
    ['vocabulary', found.vocabulary?.toLocaleString('en')],
    [
      'context',
      found.context === undefined
        ? undefined
        : `${found.context.toLocaleString('en')} tokens${windows(layers)}`,
    ],
    ['head', head(found)],
    [
      'parameters',
      `${formatCount(found.parameters)}${found.multiplyAdds === undefined ? '' : `, ${formatCount(found.multiplyAdds)} multiply-adds a token`}`,
    ],
    ['bytes', `${formatBytes(found.bytes)}, ${found.bitsPerWeight.toFixed(2)} bits a weight`],
    ['types', types(found)],
    ['chat template', chatTemplate ? 'yes' : 'no'],
    ['license', license(found)],
    ['base model', found.baseModel],
    ['made by', madeBy && made(madeBy)],
    ['how', madeBy?.summary],
    ['again by', madeBy?.command],
    [
      'compress',
      refused &&
        `refuses it: ${refused.what}${refused.found === undefined ? '' : ` (found ${refused.found})`}`,
    ],
  ];
  const known = rows.filter((row): row is [string, string] => row[1] !== undefined);
  const width = Math.max(...known.map(([key]) => key.length));
  return known.map(([key, value]) => `${key.padEnd(width)}  ${value}`);
}

function head({ tiedHead, exits = [] }: Inspection): string | undefined {
  if (tiedHead === undefined) return undefined;
  const last = tiedHead ? 'is the embedding' : 'its own';
  return exits.length === 0
    ? last
    : `${last}; others behind ${exits.length === 1 ? 'layer' : 'layers'} ${exits.join(', ')}`;
}

function made({ producer, version, model }: MadeBy): string {
  return `${producer}${version === undefined ? '' : ` ${version}`}${model === undefined ? '' : ` from ${model}`}`;
}

function license({ license: name, licenseName, licenseLink }: Inspection): string {
  return [licenseName ?? name ?? 'not said', ...(licenseLink ? [licenseLink] : [])].join(', ');
}

/** "6", "34; 27 in vision_tower.encoder.layers" */
function stacks(layers: readonly InspectedLayer[]): string | undefined {
  const counts = new Map<string | undefined, number>();
  for (const { stack } of layers) counts.set(stack, (counts.get(stack) ?? 0) + 1);
  const said = [...counts].map(([stack, count]) =>
    stack === undefined ? `${count}` : `${count} in ${stack}`,
  );
  return said.join('; ') || undefined;
}

/** Every value that layers have, "4 or 8"; undefined where none is known. */
function each(layers: readonly InspectedLayer[], value: (layer: InspectedLayer) => number | undefined) {
  const known = [...new Set(layers.map(value))].filter((one) => one !== undefined);
  return known.length === 0
    ? undefined
    : known.length > 3
      ? `${Math.min(...known)} to ${Math.max(...known)}`
      : known.join(' or ');
}

function heads(layers: readonly InspectedLayer[]): string | undefined {
  const attending = layers.filter(({ convolution }) => !convolution);
  const [count, ofKeys] = [
    each(attending, (layer) => layer.heads),
    each(attending, (layer) => layer.keyValueHeads),
  ];
  const size = each(attending, (layer) => layer.headSize);
  if (count === undefined) return undefined;
  return `${count}${size === undefined ? '' : ` of ${size}`}${ofKeys === undefined ? '' : `, ${ofKeys} for keys and values`}`;
}

function widths({ hidden, layers }: Inspection): string | undefined {
  const inner = each(layers, ({ intermediate }) => intermediate);
  const said = [
    ...(hidden === undefined ? [] : [`hidden ${hidden}`]),
    ...(inner === undefined ? [] : [`feed-forward ${inner}`]),
  ];
  return said.join(', ') || undefined;
}

/** "of 3 positions in the place of attention, in 10 layers" */
function convolutions(layers: readonly InspectedLayer[]): string | undefined {
  const width = each(layers, ({ convolution }) => convolution?.width);
  if (width === undefined) return undefined;
  const count = layers.filter(({ convolution }) => convolution).length;
  return `of ${width} positions in the place of attention, in ${count} layers`;
}

/** "128, 8 a token"; "64, 8 a token, in 27 layers" */
function experts(layers: readonly InspectedLayer[]): string | undefined {
  const mixtures = layers.filter(({ experts }) => experts);
  if (mixtures.length === 0) return undefined;
  const [count, sent] = [
    each(mixtures, ({ experts }) => experts?.count),
    each(mixtures, ({ experts }) => experts?.perToken),
  ];
  const where = mixtures.length < layers.length ? `, in ${mixtures.length} layers` : '';
  return `${count}, ${sent} a token${where}`;
}

function windows(layers: readonly InspectedLayer[]): string {
  const size = each(layers, ({ window }) => window);
  const without = layers.filter(({ window }) => window === undefined).length;
  if (size === undefined) return '';
  return `, windows of ${size}${without > 0 ? ` in ${layers.length - without} layers` : ''}`;
}

function types({ types: all, bytes }: Inspection): string {
  const said = all.slice(0, 4).map((type) => `${type.label} (${share(type.bytes / bytes)})`);
  return `${said.join('; ')}${all.length > 4 ? ` and ${all.length - 4} more` : ''}`;
}

const share = (part: number): string => (part < 0.01 ? 'under 1%' : `${Math.round(100 * part)}%`);

/** A line a layer, equal ones in a row as one. */
function layers({ layers: all, tensors }: Inspection): string[] {
  const runs: { first: InspectedLayer; last: number }[] = [];
  for (const layer of all) {
    const run = runs.at(-1);
    if (run && isAlike(run.first, layer)) run.last = layer.layer;
    else runs.push({ first: layer, last: layer.layer });
  }
  const several = new Set(all.map(({ stack }) => stack)).size > 1;
  const differs = (key: 'heads' | 'keyValueHeads' | 'intermediate' | 'window') =>
    new Set(all.filter((layer) => layer[key] !== undefined).map((layer) => layer[key])).size > 1;
  const columns = [
    { title: 'heads', key: 'heads' },
    { title: 'of keys', key: 'keyValueHeads' },
    { title: 'feed-forward', key: 'intermediate' },
    { title: 'window', key: 'window' },
  ] as const;
  const shown = columns.filter(({ key }) => differs(key));
  const rows = runs.map(({ first, last }) => [
    `${several && first.stack ? `${first.stack} ` : ''}${first.layer}${last === first.layer ? '' : `-${last}`}`,
    ...shown.map(({ key }) => `${first[key] ?? ''}`),
    formatCount(first.parameters),
    formatBytes(first.bytes),
    first.labels.join('; '),
  ]);
  const outside = tensors.filter(({ layer, shape }) => layer === undefined && shape.length > 1);
  const others = outside
    .slice(0, 8)
    .map(({ name, parameters, bytes, label }) => [
      name,
      ...shown.map(() => ''),
      formatCount(parameters),
      formatBytes(bytes),
      label,
    ]);
  const left = outside.length - others.length;
  return [
    table(
      ['layer, each', ...shown.map(({ title }) => title), 'parameters', 'bytes', 'types'],
      [...rows, ...others],
    ),
    ...(left > 0 ? [`and ${left} more outside the layers`] : []),
  ];
}

/** But for its number. */
function isAlike(a: InspectedLayer, b: InspectedLayer): boolean {
  return JSON.stringify({ ...a, layer: 0 }) === JSON.stringify({ ...b, layer: 0 });
}

function listed(tensors: readonly InspectedTensor[] | undefined): string[] {
  if (!tensors) return ['Tensors: --tensors, or --layer NUMBER, or --name "*down_proj"'];
  const rows = tensors.map(({ name, shape, label, bytes }) => [
    name,
    shape.join(' x '),
    label,
    formatBytes(bytes),
  ]);
  return [table(['tensor', 'shape', 'type', 'bytes'], rows)];
}
