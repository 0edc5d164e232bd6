/**
 * Norms that only normalize: their weights move into the matrices that read them, and for LayerNorm the mean is taken out
 * of everything that is added to the residual stream (SliceGPT, Ashkboos et al. 2024, arXiv:2401.15024, section 3).
 * After that the stream may be turned by any rotation and the model computes what it did. Matrices are changed each time
 * they are read: nothing is held twice.
 */

import { LapidaryError } from '../../base/errors.ts';
import { toFloat32 } from '../../base/half.ts';
import type { Stored } from '../../base/tensor.ts';
import { byteLength, stored } from '../../base/tensor.ts';
import { dense } from '../../encodings/dense.ts';
import type { Encoding } from '../../encodings/encoding.ts';
import type { LayerStructure, Model, NormStructure, OuterStructure } from '../../models/model.ts';

/** @throws LapidaryError where what is written passes a norm whose weights would have to turn with the stream */
function checkWriters(layers: readonly LayerStructure[]): void {
  const [found] = layers.flatMap(({ writers }) => writers.filter(({ norm }) => norm !== undefined));
  if (found)
    throw new LapidaryError({
      what: 'this architecture cannot be rotated: norms stand behind its attention and feed-forward, and their weights belong to single channels',
      where: found.norm,
      fix: 'use a method that does not rotate',
    });
}

/** @throws LapidaryError where a norm stands between tables and the stream */
function checkTables({ tableNorm }: OuterStructure): void {
  if (tableNorm === undefined) return;
  throw new LapidaryError({
    what: 'this architecture cannot be rotated: a norm stands behind its embedding, and its weights belong to single channels',
    where: tableNorm,
    fix: 'use a method that does not rotate',
  });
}

/**
 * The same model with norm weights of one. Its heads are matrices of their own: each reads a norm that no other does.
 * @throws LapidaryError where a norm's bias has nowhere to go
 */
export function fold(model: Model): Model {
  const open = untied(model);
  const { architecture, config } = open;
  const outer = architecture.around(config);
  const layers = config.layers.map((_, layer) => architecture.structure(config, layer));
  checkWriters(layers);
  checkTables(outer);
  const editor = edit(open);
  for (const norm of [...layers.flatMap(({ norms }) => norms), outer.norm, ...outer.exits])
    foldNorm(editor, norm);
  if (outer.centered) {
    for (const table of outer.tables)
      editor.matrix(table, (values, [, columns]) => centreRows(values, columns));
    for (const { matrix, bias } of layers.flatMap(({ writers }) => writers)) {
      editor.matrix(matrix, (values, [rows, columns]) => centreColumns(values, rows, columns));
      if (bias) editor.vector(bias, (values) => centreRows(values, values.length));
    }
  }
  return { ...open, matrices: editor.matrices, vectors: editor.vectors };
}

/** A tied head becomes a matrix of its own, with the embedding's values. */
function untied(model: Model): Model {
  const { architecture, config } = model;
  if (!config.tiedHead) return model;
  const json = { ...config.json, tie_word_embeddings: false };
  const own = { ...config, tiedHead: false, json };
  const headOf = (of: Model['config']) => architecture.around(of).norm.readers[0].matrix;
  const matrices = new Map(model.matrices).set(headOf(own), model.matrices.get(headOf(config))!);
  return { ...model, config: own, matrices };
}

interface Editor {
  readonly matrices: Map<string, Encoding>;
  readonly vectors: Map<string, Stored>;
  /** The change writes to the values it is given. */
  matrix(name: string, change: (values: Float32Array, shape: Encoding['shape']) => void): void;
  vector(name: string, change: (values: Float32Array) => void): void;
  /** As it is now. */
  read(name: string): Float32Array;
}

function edit(model: Model): Editor {
  const [matrices, vectors] = [new Map(model.matrices), new Map(model.vectors)];
  const read = (name: string) => toFloat32(vectors.get(name)!).slice();
  return {
    matrices,
    vectors,
    read,
    matrix: (name, change) => matrices.set(name, changed(matrices.get(name)!, change)),
    vector(name, change) {
      const values = read(name);
      change(values);
      vectors.set(name, stored('float32', [values.length], values));
    },
  };
}

/** A matrix that is changed whenever it is read. */
function changed(
  encoding: Encoding,
  change: (values: Float32Array, shape: Encoding['shape']) => void,
): Encoding {
  const { shape } = encoding;
  const bytes = () => {
    const values = encoding.dense();
    change(values, shape);
    return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  };
  return dense({ dtype: 'float32', shape, byteLength: byteLength('float32', shape), bytes });
}

function foldNorm(editor: Editor, { weight, bias, offset = 0, readers }: NormStructure): void {
  const factors = editor.read(weight).map((value) => value + offset);
  if (bias) {
    const shift = editor.read(bias);
    const takers = readers.flatMap((reader) => (reader.bias ? [reader.bias] : []));
    if (takers.length === readers.length) {
      for (const reader of readers) addProduct(editor, reader.matrix, reader.bias!, shift);
      editor.vector(bias, (values) => values.fill(0));
    } else {
      editor.vector(bias, (values) => divide(values, factors, bias));
    }
  }
  for (const { matrix } of readers) {
    editor.matrix(matrix, (values, [, columns]) => {
      for (let i = 0; i < values.length; i++) values[i] *= factors[i % columns];
    });
  }
  editor.vector(weight, (values) => values.fill(1 - offset));
}

/** bias += W shift, with W as the norm's weight was not yet in it. */
function addProduct(editor: Editor, matrix: string, bias: string, shift: Float32Array): void {
  const weight = editor.matrices.get(matrix)!.dense();
  editor.vector(bias, (values) => {
    for (let row = 0; row < values.length; row++) {
      let sum = values[row];
      for (let i = 0; i < shift.length; i++) sum += weight[row * shift.length + i] * shift[i];
      values[row] = sum;
    }
  });
}

/** A bias that stays in its norm, behind which the weight now comes: b becomes b / weight. */
function divide(values: Float32Array, factors: Float32Array, where: string): void {
  for (let i = 0; i < values.length; i++) {
    if (values[i] === 0) continue;
    values[i] /= factors[i];
    if (Number.isFinite(values[i])) continue;
    throw new LapidaryError({
      what: 'the norm has a bias that no matrix behind it can take, where its weight is zero',
      where: `${where}, channel ${i}`,
      fix: 'use a method that does not rotate',
    });
  }
}

/** Takes the mean out of each row. */
function centreRows(values: Float32Array, columns: number): void {
  for (let start = 0; start < values.length; start += columns) {
    let sum = 0;
    for (let i = 0; i < columns; i++) sum += values[start + i];
    for (let i = 0; i < columns; i++) values[start + i] -= sum / columns;
  }
}

/** Takes the mean out of each column. */
function centreColumns(values: Float32Array, rows: number, columns: number): void {
  const sums = new Float64Array(columns);
  for (let i = 0; i < values.length; i++) sums[i % columns] += values[i];
  for (let i = 0; i < values.length; i++) values[i] -= sums[i % columns] / rows;
}
