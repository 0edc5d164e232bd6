// The layers of docs/architecture.md, held in CI.
const only = (name, from, allowed) => ({
  name: `${name}-imports-only`,
  comment: `src/${name} may import only: ${allowed.join(', ') || 'nothing of ours'}`,
  severity: 'error',
  from: { path: from, pathNot: '\\.test\\.ts$' },
  to: { path: '^src/', pathNot: [from, ...allowed.map((layer) => `^src/${layer}`)] },
});

const upToModels = ['base/', 'graph/', 'encodings/', 'io/', 'tokenizer/', 'models/'];
const upToContract = [...upToModels, 'contract/'];
const belowMethods = [
  ...upToContract,
  'kernels/',
  'calibrate/',
  'evaluate/',
  'rounding/',
  'compensate/',
  'transform/',
  'train/',
];

module.exports = {
  forbidden: [
    {
      name: 'no-cycles',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
    {
      name: 'onnxruntime-only-in-session',
      comment: 'The engine is behind one file.',
      severity: 'error',
      from: { path: '^src/', pathNot: ['^src/graph/session', '\\.test\\.ts$'] },
      to: { path: 'onnxruntime' },
    },
    {
      name: 'methods-only-through-the-contract',
      comment: 'Who takes a method knows its type from src/contract, and finds it in the list of families.',
      severity: 'error',
      from: { path: '^src/', pathNot: ['^src/methods/', '\\.test\\.ts$'] },
      to: { path: '^src/methods/', pathNot: '^src/methods/index\\.ts$' },
    },
    {
      name: 'no-method-imports-another-family',
      severity: 'error',
      from: { path: '^src/methods/([^/]+)/', pathNot: '\\.test\\.ts$' },
      to: { path: '^src/methods/', pathNot: '^src/methods/$1/' },
    },
    {
      name: 'no-dev-dependencies-in-the-product',
      severity: 'error',
      from: { path: '^src/', pathNot: '\\.test\\.ts$' },
      to: { dependencyTypes: ['npm-dev', 'npm-no-pkg', 'unknown', 'undetermined'] },
    },
    {
      name: 'nothing-imports-the-cli',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/cli/' },
      to: { path: '^src/cli/' },
    },
    only('base', '^src/base/', []),
    only('io', '^src/io/', ['base/']),
    only('tokenizer', '^src/tokenizer/', ['base/']),
    only('kernels', '^src/kernels/', ['base/']),
    only('graph', '^src/graph/', ['base/', 'io/onnx/']),
    only('encodings', '^src/encodings/', ['base/', 'graph/', 'kernels/']),
    only('models', '^src/models/', ['base/', 'graph/', 'encodings/', 'io/', 'tokenizer/']),
    only('contract', '^src/contract/', ['base/', 'graph/', 'encodings/', 'models/']),
    only('calibrate', '^src/calibrate/', upToContract),
    only('evaluate', '^src/evaluate/', upToModels),
    only('rounding', '^src/rounding/', [...upToContract, 'kernels/']),
    only('compensate', '^src/compensate/', [...upToContract, 'kernels/', 'rounding/']),
    only('transform', '^src/transform/', [...upToContract, 'kernels/', 'calibrate/']),
    only('train', '^src/train/', [...upToContract, 'kernels/', 'rounding/']),
    only('methods', '^src/methods/', [...belowMethods, 'recipe/options\\.ts']),
    only('open', '^src/open\\.ts', upToModels),
    only('measure', '^src/measure/', [...upToModels, 'calibrate/', 'evaluate/', 'open\\.ts']),
    only('inspect', '^src/inspect/', [
      ...upToModels,
      'evaluate/',
      'measure/',
      'open\\.ts',
      'report/(files|schema)\\.ts',
    ]),
    only('share', '^src/share/', ['base/', 'io/', 'report/(files|schema)\\.ts']),
    only('recipe', '^src/recipe/', ['base/', 'io/hub-id\\.ts', 'contract/', 'methods/']),
    only('export', '^src/export/', [...upToModels, 'evaluate/']),
  ],
  options: {
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^(dist|bench)/' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'node', 'default'] },
  },
};
