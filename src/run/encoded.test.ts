import { describe, expect, it } from 'vitest';
import { factorize, svd } from '../../test/conformance/factorize.ts';
import { magnitude, narrower, wanda } from '../../test/conformance/prune.ts';
import { removeLayers } from '../../test/conformance/remove-layers.ts';
import { tinyLlama } from '../../test/models/tiny.ts';
import { ExitCode, LapidaryError } from '../base/errors.ts';
import { random } from '../base/random.ts';
import type { BlockRewrite, LinearMethod, ModelRewrite } from '../contract/method.ts';
import { findMethod } from '../methods/index.ts';
import { checkRecipe } from '../recipe/recipe.ts';
import { applyRecipe } from './apply.ts';
import { checkEncoded } from './encoded.ts';

const model = tinyLlama({ tied: true });
const source = random(3);
const calibration = Array.from({ length: 2 }, () =>
  Int32Array.from({ length: 12 }, () => source.integer(10)),
);

const rtn = { method: 'rtn', bits: 4, group: -1 };
const own = (method: object, options: object = {}) => ({ method, ...options });
const [zeros, weighed, thin] = [own(magnitude), own(wanda), own(svd, { rank: 2 })];
const [cut, shorter, shared] = [own(narrower), own(removeLayers), own(factorize.methods[1]!)];
/** Of no family, so that it is a walk by itself. */
const kept = own({ ...(findMethod('keep') as LinearMethod), name: 'own keep' }, { form: 'stored' });
const scaled = own({ ...(findMethod('awq') as BlockRewrite), name: 'own awq' });

const early = (steps: readonly object[]) => checkEncoded(checkRecipe({ steps }), model);
const applied = (steps: readonly object[]) =>
  applyRecipe(model, checkRecipe({ steps }), { calibration }, { threads: 1 });

describe('what a step has encoded', () => {
  it.each([
    ['pruning of what is rounded', [rtn, weighed], 'wanda cannot stand behind rtn', 'put it before rtn'],
    ['rounding of what is factored', [thin, rtn], 'rtn cannot stand behind svd', 'put it before svd'],
    ['a cut through what is rounded', [rtn, cut], 'narrower cannot stand behind rtn', 'put it before rtn'],
    ['scales of blocks that are rounded', [rtn, scaled], 'own awq cannot stand behind rtn', 'put it before'],
  ])('is lost to nobody: %s is refused before the work, and in it', async (_, steps, what, fix) => {
    for (const run of [early, applied]) {
      const error = await run(steps).then(
        () => undefined,
        (thrown: unknown) => thrown as LapidaryError,
      );
      expect(error).toBeInstanceOf(LapidaryError);
      expect(error!.exitCode).toBe(ExitCode.usage);
      expect(error!.problem.what).toContain(what);
      expect(error!.problem.where).toMatch(/^model\./);
      expect(error!.problem.fix).toContain(fix);
    }
  });

  it.each([
    ['rounding of what is pruned', [zeros, rtn]],
    ['pruning twice', [zeros, weighed]],
    [
      'matrices that the first leaves',
      [
        { ...rtn, targets: ['attention'] },
        { ...weighed, targets: ['feed-forward'] },
      ],
    ],
    ['taking over what is rounded', [rtn, kept]],
    ['removal of layers', [rtn, shorter]],
    ['sharing of matrices', [rtn, shared]],
    ['a cut through what is pruned', [zeros, cut]],
  ])('may be followed by %s', async (_, steps) => {
    await early(steps);
    await applied(steps);
  });

  it('is found behind a change of the structure, too, when that is done', async () => {
    const steps = [rtn, shorter, weighed];
    await early(steps);
    await expect(applied(steps)).rejects.toThrow('wanda cannot stand behind rtn');
  });

  it('is not lost to a rewrite that says that it keeps it', async () => {
    const claiming: ModelRewrite = { ...narrower, keepsEncodings: true };
    await expect(applied([rtn, own(claiming)])).rejects.toThrow(
      'narrower says that it keeps encodings, and has decoded one',
    );
  });
});
