/**
 * Options are declared once, as zod schemas beside what they steer. Here a value is checked against one, with an
 * error that names the option, what it may be, and the nearest known name for an unknown one.
 */

import { closest } from 'fastest-levenshtein';
import { z } from 'zod';
import { ExitCode, LapidaryError } from '../base/errors.ts';
import { quoted, shortened } from '../base/json.ts';

/** @throws LapidaryError naming the first option that does not fit. */
export function parseOptions<T>(schema: z.ZodType<T>, values: unknown, where: string): T {
  const result = schema.safeParse(values);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  if (issue.code === 'unrecognized_keys') throw unknownOption(schema, issue.path, issue.keys[0], where);
  const path = issue.path.join('.');
  throw new LapidaryError(
    {
      what: path ? `option "${path}" does not fit` : 'the value does not fit',
      where,
      expected:
        allowed(schemaAt(schema, issue.path)) ??
        issue.message.replace(/^Invalid input: expected (.*), received .*$/, '$1'),
      found: quoted(valueAt(values, issue.path)),
    },
    ExitCode.usage,
  );
}

function unknownOption(schema: z.ZodType, path: readonly PropertyKey[], name: string, where: string) {
  const known = Object.keys(schemaAt(schema, path)?.properties ?? {});
  return new LapidaryError(
    {
      what: `unknown option "${shortened(name)}"`,
      where: path.length > 0 ? `${where}, ${path.join('.')}` : where,
      expected: known.length > 0 ? `one of ${known.join(', ')}` : undefined,
      fix: known.length > 0 ? `did you mean "${closest(name, known)}"?` : undefined,
    },
    ExitCode.usage,
  );
}

/** The values that a choice allows, for people. */
function allowed(schema: JsonSchema | undefined): string | undefined {
  const choices = schema && choicesOf(schema);
  if (choices) return `one of ${choices.join(', ')}`;
  if (schema?.type !== 'integer' && schema?.type !== 'number') return undefined;
  const { minimum, maximum } = schema;
  const from = minimum === undefined ? '' : ` from ${minimum}`;
  const to = maximum === undefined || maximum >= Number.MAX_SAFE_INTEGER ? '' : ` to ${maximum}`;
  return `a ${schema.type === 'integer' ? 'whole ' : ''}number${from}${to}`;
}

function choicesOf(schema: JsonSchema): readonly (string | number)[] | undefined {
  if (schema.enum) return schema.enum;
  const values = schema.anyOf?.map((variant) => variant.const);
  return values?.every((value) => value !== undefined) ? values : undefined;
}

/** "blockSize" as a flag: "block-size". */
export const flagOf = (option: string): string =>
  option.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

/** One option as a flag, a form field or a search's domain needs it. */
export interface OptionInfo {
  readonly name: string;
  /** "mixed": a number or true or false, or one of some words. */
  readonly type: 'number' | 'string' | 'boolean' | 'mixed';
  readonly choices?: readonly (string | number)[] | undefined;
  /** Of a mixed one, for people: "true", "false", "a number", and its words. */
  readonly alternatives?: readonly string[] | undefined;
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
    const choices = choicesOf(property);
    const type = choices ? typeof choices[0] : (property.type ?? (property.anyOf ? 'mixed' : 'string'));
    return {
      name,
      type: type === 'integer' ? 'number' : (type as OptionInfo['type']),
      choices,
      alternatives: type === 'mixed' ? property.anyOf?.flatMap(alternativesOf) : undefined,
      minimum: property.minimum,
      maximum: property.maximum,
      default: property.default,
      help: property.description ?? '',
    };
  });
}

function alternativesOf({ type, const: word, enum: words }: JsonSchema): readonly string[] {
  if (words) return words.map(String);
  if (word !== undefined) return [String(word)];
  return type === 'boolean' ? ['true', 'false'] : ['a number'];
}

/** Schemas are declared once, and described often. */
const known = new WeakMap<z.ZodType, JsonSchema>();

function jsonSchema(schema: z.ZodType): JsonSchema {
  const json = known.get(schema) ?? z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' });
  known.set(schema, json as JsonSchema);
  return json as JsonSchema;
}

function schemaAt(schema: z.ZodType, path: readonly PropertyKey[]): JsonSchema | undefined {
  return path.reduce<JsonSchema | undefined>(
    (at, key) => (typeof key === 'number' ? at?.items : at?.properties?.[String(key)]),
    jsonSchema(schema),
  );
}

function valueAt(values: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>((at, key) => (at as Record<PropertyKey, unknown> | undefined)?.[key], values);
}
