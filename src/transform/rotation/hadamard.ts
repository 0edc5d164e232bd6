/**
 * Hadamard matrices: entries of one size, all rows orthogonal. Orders that are not powers of two come from quadratic
 * residues (Paley, "On orthogonal matrices", 1933) and Kronecker products (Sylvester, 1867): 576 = 16 x 36, 896 = 32 x 28.
 */

/**
 * @returns H with entries 1 and -1, row-major [order, order], H H^T = order I, its first column all 1; undefined where
 *   neither construction gives one of this order
 */
export function hadamard(order: number): Int8Array | undefined {
  const matrices = factorsOf(order)?.map((factor) => basic(factor)!);
  return matrices?.reduce(kronecker, Int8Array.of(1));
}

export const hasHadamard = (order: number): boolean => factorsOf(order) !== undefined;

/** Orders of basic matrices whose product is the order. */
function factorsOf(order: number): number[] | undefined {
  if (order === 1) return [];
  for (let factor = 2; factor <= order; factor++) {
    if (order % factor !== 0 || !isBasic(factor)) continue;
    const others = factorsOf(order / factor);
    if (others) return [factor, ...others];
  }
  return undefined;
}

const isBasic = (order: number) => order === 2 || residuesOf(order) !== undefined;

/** The odd prime of Paley's first construction (order - 1) or second (order / 2 - 1). */
function residuesOf(
  order: number,
): { readonly prime: number; readonly kind: 'first' | 'second' } | undefined {
  if (order % 4 !== 0) return undefined;
  if (isPrime(order - 1)) return { prime: order - 1, kind: 'first' };
  const prime = order / 2 - 1;
  return prime % 4 === 1 && isPrime(prime) ? { prime, kind: 'second' } : undefined;
}

function isPrime(value: number): boolean {
  if (value < 2) return false;
  for (let divisor = 2; divisor * divisor <= value; divisor++) if (value % divisor === 0) return false;
  return true;
}

function basic(order: number): Int8Array | undefined {
  if (order === 2) return Int8Array.of(1, 1, 1, -1);
  const found = residuesOf(order);
  if (!found) return undefined;
  const residue = characters(found.prime);
  return signsFirst(order, found.kind === 'first' ? first(order, residue) : second(order, residue));
}

/** 0 for 0, 1 for squares modulo the prime, -1 for the others. */
function characters(prime: number): (value: number) => number {
  const signs = new Int8Array(prime).fill(-1);
  signs[0] = 0;
  for (let root = 1; root < prime; root++) signs[(root * root) % prime] = 1;
  return (value) => signs[(value + prime) % prime];
}

type Entry = (row: number, column: number) => number;

/** I + S, S skew with a border of ones. */
function first(order: number, residue: (value: number) => number): Int8Array {
  return filled(order, (row, column) => {
    if (row === column) return 1;
    if (row === 0) return 1;
    return column === 0 ? -1 : residue(row - column);
  });
}

/** C x [1 1; 1 -1] + I x [1 -1; -1 -1], C symmetric with a border of ones. */
function second(order: number, residue: (value: number) => number): Int8Array {
  return filled(order, (row, column) => {
    const [i, j] = [row >> 1, column >> 1];
    const both = row % 2 === 1 && column % 2 === 1;
    if (i === j) return row % 2 === 0 && column % 2 === 0 ? 1 : -1;
    return (i === 0 || j === 0 ? 1 : residue(i - j)) * (both ? -1 : 1);
  });
}

function filled(order: number, entry: Entry): Int8Array {
  return Int8Array.from({ length: order * order }, (_, i) => entry(Math.floor(i / order), i % order));
}

/** Rows that begin with -1 change their sign. */
function signsFirst(order: number, matrix: Int8Array): Int8Array {
  return filled(order, (row, column) => matrix[row * order] * matrix[row * order + column]);
}

function kronecker(a: Int8Array, b: Int8Array): Int8Array {
  const [m, n] = [Math.sqrt(a.length), Math.sqrt(b.length)];
  return filled(
    m * n,
    (row, column) => a[Math.floor(row / n) * m + Math.floor(column / n)] * b[(row % n) * n + (column % n)],
  );
}
