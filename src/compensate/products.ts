/**
 * The three matrix products of blocked GPTQ, as sessions that serve every size (see cholesky.ts and integers.ts), and the
 * memory they work in. The engine reads and writes it in place, and takes no memory that threads share, so this is
 * not the kernels'.
 */

import { Graph } from '../graph/graph.ts';
import { add, fusedMatmul, matmul, sub } from '../graph/ops.ts';
import type { Session, Tensor } from '../graph/session.ts';
import { openSession, tensor } from '../graph/session.ts';

/** Row-major; `rows` times a width that follows from the length. */
export interface Rows {
  readonly rows: number;
  readonly values: Float32Array;
}

export interface Products {
  /** S = C - A D^T: c [m, b], a [m, k], d [b, k], into s [m, b]. */
  remainder(c: Rows, a: Rows, d: Rows, s: Rows): Promise<void>;
  /** R = S U^T and V = R U: s [m, b], ut = U^T [b, b], into r and v [m, b]. */
  panel(s: Rows, ut: Rows, r: Rows, v: Rows): Promise<void>;
  /** W + V^T E: w [b, n], v [j, b], e [j, n], into now [b, n]. */
  feedback(w: Rows, v: Rows, e: Rows, now: Rows): Promise<void>;
  /** As many floats, whatever they hold, until the next `release`. */
  reserve(count: number): Float32Array;
  release(): void;
}

const known = new Map<number, Promise<Products>>();

/** @param threads of the engine, which change no result; users of the same must take turns */
export function products(threads: number): Promise<Products> {
  let found = known.get(threads);
  if (!found) {
    found = open(threads);
    known.set(threads, found);
  }
  return found;
}

async function open(threads: number): Promise<Products> {
  // With a single row to a thread the engine takes another kernel, which gives other bits.
  const [alone, together] = await Promise.all([sessions(1), sessions(threads)]);
  const suited = ({ rows }: Rows) => (rows < 2 * threads ? alone : together);
  const memory = workspace();
  return {
    async remainder(c, a, d, s) {
      await suited(c).remainder.run(tensors({ c, a, d }), tensors({ s }));
    },
    async panel(s, ut, r, v) {
      await suited(s).panel.run(tensors({ s, ut }), tensors({ r, v }));
    },
    async feedback(w, v, e, now) {
      await together.feedback.run(tensors({ w, v, e }), tensors({ now }));
    },
    ...memory,
  };
}

async function sessions(threads: number) {
  const [remainder, panel, feedback] = await Promise.all([
    session(threads, (graph) => {
      const [c, a, d] = [
        input(graph, 'c', 'm', 'b'),
        input(graph, 'a', 'm', 'k'),
        input(graph, 'd', 'b', 'k'),
      ];
      graph.output('s', sub(c, fusedMatmul(a, d, { transB: true })));
    }),
    session(threads, (graph) => {
      const ut = input(graph, 'ut', 'b', 'b');
      const r = matmul(input(graph, 's', 'm', 'b'), ut);
      graph.output('r', r);
      graph.output('v', fusedMatmul(r, ut, { transB: true }));
    }),
    session(threads, (graph) => {
      const [w, v, e] = [
        input(graph, 'w', 'b', 'n'),
        input(graph, 'v', 'j', 'b'),
        input(graph, 'e', 'j', 'n'),
      ];
      graph.output('now', add(w, fusedMatmul(v, e, { transA: true })));
    }),
  ]);
  return { remainder, panel, feedback };
}

function tensors(matrices: Readonly<Record<string, Rows>>): Record<string, Tensor> {
  return Object.fromEntries(
    Object.entries(matrices).map(([name, { rows, values }]) => [
      name,
      tensor('float32', [rows, values.length / rows], values),
    ]),
  );
}

/** Floats that are kept from layer to layer: fresh memory costs more than what is computed in it. */
const mostKept = 2 ** 24;

function workspace(): Pick<Products, 'reserve' | 'release'> {
  let kept = new Float32Array(0);
  let used = 0;
  let wanted = 0;
  return {
    reserve(count) {
      const size = Math.ceil(count / 16) * 16;
      wanted += size;
      if (used + size > kept.length) return new Float32Array(count);
      used += size;
      return kept.subarray(used - size, used - size + count);
    },
    release() {
      if (wanted > kept.length && wanted <= mostKept) kept = new Float32Array(wanted);
      used = 0;
      wanted = 0;
    },
  };
}

const input = (graph: Graph, name: string, rows: string, columns: string) =>
  graph.input(name, 'float32', [rows, columns]);

function session(threads: number, build: (graph: Graph) => void): Promise<Session> {
  const graph = new Graph();
  build(graph);
  return openSession(graph, { threads, spinning: false });
}
