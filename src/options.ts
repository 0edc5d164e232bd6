/**
 * Options are declared once, as zod schemas beside what they steer. Here a value is checked against one, with an
 * error that names the option, what it may be, and the nearest known name for an unknown one.
 */

import { closest } from 'fastest-levenshtein';
import { z } from 'zod';
import { ExitCode, LapidaryError } from './base/errors.ts';

/** @throws LapidaryError naming the first option that does not fit. */
export function parseOptions<T>(schema: z.ZodType<T>, values: unknown, where: string): T {
  const result = schema.safeParse(values);
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  const path = issue.path.join('.');
  if (issue.code === 'unrecognized_keys') {
    const unknown = issue.keys[0]!;
    const known = knownKeys(schema, issue.path);
    throw new LapidaryError(
      {
        what: `unknown option "${unknown}"`,
        where: path ? `${where}, ${path}` : where,
        expected: known.length ? `one of ${known.join(', ')}` : undefined,
        fix: known.length ? `did you mean "${closest(unknown, known)}"?` : undefined,
      },
      ExitCode.usage,
    );
  }
  throw new LapidaryError(
    {
      what: path ? `option "${path}" does not fit` : 'the value does not fit',
      where,
      expected: issue.message,
      found: JSON.stringify(valueAt(values, issue.path)) ?? 'nothing',
    },
    ExitCode.usage,
  );
}

/** One option as a flag, a form field or a search's domain needs it. */
export interface OptionInfo {
  readonly name: string;
  readonly type: 'number' | 'string' | 'boolean';
  readonly choices?: readonly (string | number)[] | undefined;
  readonly minimum?: number | undefined;
  readonly maximum?: number | undefined;
  readonly default?: unknown;
  readonly help: string;
}

interface JsonSchema {
  readonly type?: string;
  readonly enum?: readonly (string | number)[];
  readonly const?: string | number;
  readonly anyOf?: readonly JsonSchema[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly default?: unknown;
  readonly description?: string;
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly items?: JsonSchema;
}

/** The options of an object schema, in the order they were declared. */
export function describeOptions(schema: z.ZodType): OptionInfo[] {
  return Object.entries(jsonSchema(schema).properties ?? {}).map(([name, property]) => {
    const variants = property.anyOf ?? [property];
    const choices =
      property.enum ??
      (variants.every((variant) => variant.const !== undefined)
        ? variants.map((variant) => variant.const!)
        : undefined);
    const type = choices ? typeof choices[0] : (variants[0]!.type ?? 'string');
    return {
      name,
      type: type === 'integer' || type === 'number' ? 'number' : type === 'boolean' ? 'boolean' : 'string',
      choices,
      minimum: property.minimum,
      maximum: property.maximum,
      default: property.default,
      help: property.description ?? '',
    };
  });
}

function jsonSchema(schema: z.ZodType): JsonSchema {
  return z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as JsonSchema;
}

function knownKeys(schema: z.ZodType, path: readonly PropertyKey[]): string[] {
  let at: JsonSchema | undefined = jsonSchema(schema);
  for (const key of path) at = typeof key === 'number' ? at?.items : at?.properties?.[String(key)];
  return Object.keys(at?.properties ?? {});
}

function valueAt(values: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>((at, key) => (at as Record<PropertyKey, unknown> | undefined)?.[key], values);
}
