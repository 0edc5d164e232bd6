/**
 * recipe.yaml as a JSON schema, for editors that complete and check what is written: each step by its own method's options.
 * Made from the same zod schemas that recipes are checked by.
 */

import { z } from 'zod';
import type { Method } from '../contract/method.ts';
import { methods } from '../methods/index.ts';
import { recipeSchema } from './recipe.ts';
import { compresses } from './steps.ts';

type JsonSchema = z.core.JSONSchema.BaseSchema;

/** In draft 7, which every editor reads. */
export function recipeJsonSchema(): JsonSchema {
  const whole = plain(recipeSchema);
  const steps = whole.properties!.steps as JsonSchema;
  const targets = ((steps.items as JsonSchema).properties as Record<string, JsonSchema>).targets!;
  return {
    ...whole,
    title: 'A recipe of Lapidary',
    properties: {
      ...whole.properties,
      steps: { ...steps, items: { anyOf: methods.map((method) => stepSchema(method, targets)) } },
    },
  };
}

function stepSchema(method: Method, targets: JsonSchema): JsonSchema {
  const { properties, additionalProperties } = plain(method.options);
  return {
    title: method.name,
    description: method.summary,
    type: 'object',
    properties: {
      method: { const: method.name },
      ...(compresses(method) ? { targets } : {}),
      ...properties,
    },
    required: ['method'],
    ...(additionalProperties === undefined ? {} : { additionalProperties }),
  };
}

function plain(schema: z.ZodType): JsonSchema {
  return z.toJSONSchema(schema, {
    target: 'draft-7',
    io: 'input',
    unrepresentable: 'any',
    override: ({ jsonSchema }) => {
      // The largest whole number of JavaScript is no limit that anybody set.
      if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum;
      // Of an empty section, which is filled.
      if (jsonSchema.type === 'object') delete jsonSchema.default;
    },
  });
}
