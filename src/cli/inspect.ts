/** `lapidary inspect`: what is in a model: layers, shapes, types, bytes. Reads headers, no weights. */

import { Command } from 'commander';
import { fileTensors } from '../evaluate/cost.ts';
import { costOf } from '../measure.ts';
import type { OpenedWeights } from '../open.ts';
import { openWeights } from '../open.ts';
import { jsonOption, print, withProgress } from './common.ts';
import { formatBytes, formatCount, table } from './table.ts';

interface Row {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: string;
  readonly bytes: number;
}

export function command(): Command {
  return new Command('inspect')
    .summary('layers, shapes, types and bytes of a model')
    .description('Lists what is in a checkpoint, an exported folder, or one GGUF or ONNX file.')
    .argument(
      '[model]',
      'folder, hub id, .gguf or .onnx file; left out: the model that ships with the package',
    )
    .option('--revision <name>', 'branch, tag or commit of a hub id')
    .addOption(jsonOption())
    .addHelpText('after', '\nExamples:\n  lapidary inspect\n  lapidary inspect ./my-model --json')
    .action(
      async (
        location: string | undefined,
        flags: { readonly revision?: string; readonly json?: boolean },
      ) => {
        const opened = await withProgress((work) => openWeights(location, { ...flags, ...work }));
        const tensors = rowsOf(opened);
        const cost = costOf(opened);
        if (flags.json)
          return print(JSON.stringify({ model: opened.name, ...plan(opened), ...cost, tensors }));
        const body = tensors.map((row) => [
          row.name,
          row.shape.join(' x '),
          row.dtype,
          formatBytes(row.bytes),
        ]);
        print(table(['tensor', 'shape', 'type', 'bytes'], body));
        print(
          `\n${opened.name}: ${formatCount(cost.parameters)} parameters, ${formatBytes(cost.bytes)}, ${cost.bitsPerWeight.toFixed(2)} bits a weight, ${formatCount(cost.multiplyAdds)} multiply-adds a token, context ${opened.context}`,
        );
      },
    );
}

function rowsOf(opened: OpenedWeights): Row[] {
  if (opened.file !== undefined) return fileTensors(opened.file);
  const { matrices, vectors } = opened.model;
  const all: Row[] = [];
  for (const [name, encoding] of matrices) {
    const bytes = [...encoding.tensors.values()].reduce((sum, tensor) => sum + tensor.byteLength, 0);
    all.push({ name: `${name}.weight`, shape: encoding.shape, dtype: encoding.label, bytes });
  }
  for (const [name, { shape, dtype, byteLength }] of vectors)
    all.push({ name, shape, dtype, bytes: byteLength });
  return all.sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }));
}

function plan(opened: OpenedWeights): Record<string, unknown> {
  if (!opened.model) return { context: opened.context };
  const { modelType, hidden, vocabulary, context, layers } = opened.model.config;
  return { modelType, hidden, vocabulary, context, layers };
}
