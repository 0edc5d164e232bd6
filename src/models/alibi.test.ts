import { describe, expect, it } from 'vitest';
import { toFloat32 } from '../base/half.ts';
import { alibiSlopes, alibiTable } from './alibi.ts';

describe('slopes', () => {
  it('are those of the paper for eight heads', () => {
    expect(alibiSlopes(8)).toEqual([1, 2, 3, 4, 5, 6, 7, 8].map((power) => 2 ** -power));
  });

  it('of other numbers of heads are taken from between those of a power of two', () => {
    const [four, eight] = [alibiSlopes(4), alibiSlopes(8)];
    expect(alibiSlopes(6)).toEqual([...four, eight[0], eight[2]]);
    expect(alibiSlopes(1)).toEqual([2 ** -8]);
  });
});

describe('the table', () => {
  it('is slope times position', () => {
    const table = alibiTable({ slopes: [0.5, 0.25], factor: 2 }, 3);
    expect(table.shape).toEqual([2, 3]);
    expect([...toFloat32(table)]).toEqual([0, 1, 2, 0, 0.5, 1]);
  });

  it('in bfloat16 has eight bits of slope, position and product', () => {
    // torch: (tensor(0.7).bfloat16() * tensor([257, 259, 600])).float()
    const table = toFloat32(alibiTable({ slopes: [0.7], rounded: true }, 601));
    expect([table[257], table[259], table[600]]).toEqual([179, 182, 420]);
  });
});
