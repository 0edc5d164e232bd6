import { describe, expect, it } from 'vitest';
import { exampleReport } from '../../test/report-example.ts';
import { parseReport } from './schema.ts';

const read = (value: unknown) => parseReport(JSON.stringify(value), 'out/report.json');

describe('report.json', () => {
  it('is read back as it was written', () => {
    expect(read(exampleReport)).toEqual(exampleReport);
  });

  it('may lack what was not measured', () => {
    const { evaluation: _, speed: __, ...bare } = exampleReport;
    expect(read(bare)).toEqual(bare);
  });

  it('keeps a perplexity beyond all numbers, which JSON calls null', () => {
    const endless = { value: Infinity, low: 1, high: Infinity };
    const report = { ...exampleReport, compressed: { ...exampleReport.compressed, perplexity: endless } };
    expect(read(report).compressed.perplexity).toEqual(endless);
  });

  it.each([
    ['no JSON', '{"format": 1,'],
    ['another kind of JSON', '[1, 2]'],
    ['JSON of a model', '{"model_type": "llama", "format": "x"}'],
    ['a report without its tensors', JSON.stringify({ ...exampleReport, tensors: undefined })],
    ['a number that is a text', JSON.stringify({ ...exampleReport, original: { bytes: '12' } })],
  ])('that is %s is refused, naming the file', (_, text) => {
    expect(() => parseReport(text, 'out/report.json')).toThrow(/^out\/report\.json: this is not a report/);
  });

  it('of a later layout is refused, saying so', () => {
    expect(() => read({ ...exampleReport, format: 2 })).toThrow(/newer Lapidary/);
    expect(() => read({ ...exampleReport, format: 0 })).toThrow(/compress again/);
  });
});
