#!/usr/bin/env bash
# onnxruntime-node 1.30.0 writes into a tensor that is given for an output, and hands out another one with the same values.
#
# Seen on 2026-12-01, Linux x64, Node 20.20.2, with onnxruntime-node 1.30.0: a Relu of four floats, run with
# { y: tensor } in place of a list of names, where the tensor is over an array of the caller's.
# The caller's array has the result afterwards, so nothing needs to be read from what run() resolves to. That has the result,
# too, but in a tensor and a buffer of its own: as many bytes again at each run, which the garbage collector has to find.
# Where outputs are large (logits of a chunk of text: 32 MB) giving places does not keep memory from growing, as one would
# give them for; who wants that detaches the buffers that come back.
#
# Exits with 0 while this holds, with 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm init -y > /dev/null
npm install --ignore-scripts --no-audit --no-fund --loglevel=error onnxruntime-node@1.30.0

cat > relu.cjs <<'JS'
const ort = require('onnxruntime-node');

// A model by hand, in protobuf: fields are [number, text, number or bytes].
const field = (number, value) => {
  if (typeof value === 'number') return Buffer.from([number << 3, value]);
  const bytes = Buffer.from(value);
  return Buffer.concat([Buffer.from([(number << 3) | 2, bytes.length]), bytes]);
};
const message = (...fields) => Buffer.concat(fields.map(([number, value]) => field(number, value)));
const float32 = 1;
const value = (name) =>
  message([1, name], [2, message([1, message([1, float32], [2, message([1, message([1, 4])])])])]);
const node = message([1, 'x'], [2, 'y'], [4, 'Relu']);
const graph = message([1, node], [2, 'g'], [11, value('x')], [12, value('y')]);
const model = message([1, 10], [7, graph], [8, message([2, 17])]);

(async () => {
  const session = await ort.InferenceSession.create(model);
  const own = new Float32Array(4);
  const place = new ort.Tensor('float32', own, [4]);
  const found = await session.run({ x: new ort.Tensor('float32', Float32Array.of(-1, 2, -3, 4), [4]) }, { y: place });
  const same = (one, other) => (one === other ? 'the same' : 'another');
  console.log(
    `own array ${own.join()}; given back ${found.y.data.join()}, in ${same(found.y, place)} tensor, over ${same(found.y.data.buffer, own.buffer)} buffer`,
  );
})();
JS

found=$(node relu.cjs)
echo "$found"
[ "$found" = 'own array 0,2,0,4; given back 0,2,0,4, in another tensor, over another buffer' ]
