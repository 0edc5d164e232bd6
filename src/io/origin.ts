/**
 * Where a model is from and under which terms, as it says itself: in the front matter of its README.md, in config.json,
 * or in a GGUF file's metadata. None of it decides anything here; it is passed on to the model card. What cannot be read
 * is not known.
 */

import { closeSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { parseDocument } from 'yaml';
import { isObject } from '../base/json.ts';
import type { GgufMetadata } from './gguf/types.ts';
import { isHubId } from './hub-id.ts';

export interface Origin {
  /** As hubs write it: "apache-2.0", "other". */
  readonly license?: string | undefined;
  /** Of a license that is "other": its name, and where its text is. */
  readonly licenseName?: string | undefined;
  readonly licenseLink?: string | undefined;
  /** Hub id ("org/name") of the original, or of what it was made from. */
  readonly baseModel?: string | undefined;
}

/** Front matter that is longer is none of ours. */
const maxFrontMatter = 256 * 1024;

/**
 * Files that say under which terms a model may be used, and travel with what is made of it: LICENSE, LICENSE.md,
 * LICENSE-MIT, NOTICE.txt, USE_POLICY.md.
 */
export const isLegalFile = (name: string): boolean =>
  /^(licen[cs]e|notice|copying|use_policy)([._-][\w.-]*)?$/i.test(name);

/** @param text of README.md */
export function originFromReadme(text: string): Origin {
  const [, front] =
    /^\uFEFF?---[ \t]*\r?\n([\s\S]*?)\r?\n---[ \t]*(\r?\n|$)/.exec(text.slice(0, maxFrontMatter)) ?? [];
  if (front === undefined) return {};
  let fields: unknown;
  try {
    fields = parseDocument(front, { logLevel: 'silent' }).toJS({ maxAliasCount: 0 });
  } catch {
    return {};
  }
  if (!isObject(fields)) return {};
  return {
    license: word(fields.license),
    licenseName: line(fields.license_name),
    licenseLink: line(fields.license_link),
    baseModel: hubId(fields.base_model),
  };
}

/** Of a folder with a README.md; one that cannot be read says nothing. */
export function originFromFolder(folder: string): Origin {
  try {
    const bytes = Buffer.alloc(maxFrontMatter);
    const file = openSync(join(folder, 'README.md'), 'r');
    try {
      return originFromReadme(bytes.toString('utf8', 0, readSync(file, bytes)));
    } finally {
      closeSync(file);
    }
  } catch {
    return {};
  }
}

/** @param json config.json, which may name the model that it was saved from */
export function originFromConfig(json: Readonly<Record<string, unknown>>): Origin {
  const id = hubId(json._name_or_path);
  return { baseModel: id !== undefined && !ownFolder.test(id) ? id : undefined };
}

/** The keys that llama.cpp's converter writes (gguf-py, "general.*"); what it was converted from comes first. */
export function originFromGguf(metadata: GgufMetadata): Origin {
  const at = (key: string) => {
    const found = metadata.get(`general.${key}`);
    return found?.type === 'string' ? found.value : undefined;
  };
  return {
    license: word(at('license')),
    licenseName: line(at('license.name')),
    licenseLink: line(at('license.link')),
    baseModel: ['source.huggingface.repository', 'source.repo_url', 'source.url', 'base_model.0.repo_url']
      .map((key) => hubId(at(key)))
      .find((id) => id !== undefined),
  };
}

/** Folders of somebody's training, which are written like ids. */
const ownFolder =
  /^(checkpoints?|data|logs?|models?|out|outputs?|results?|runs?|tmp|workspace)\/|\/checkpoint-\d+$/i;

/** What the first of them says, field by field. */
export function mergedOrigin(...origins: readonly Origin[]): Origin {
  const first = <K extends keyof Origin>(key: K) =>
    origins.find((origin) => origin[key] !== undefined)?.[key];
  // Names and links belong to the license that they stand beside.
  const terms = origins.find(({ license }) => license !== undefined);
  return {
    license: terms?.license,
    licenseName: terms?.licenseName,
    licenseLink: terms?.licenseLink,
    baseModel: first('baseModel'),
  };
}

/** Of a text or of a list's first: one line, of sane length. */
function line(value: unknown): string | undefined {
  const text = Array.isArray(value) ? value[0] : value;
  if (typeof text !== 'string') return undefined;
  const trimmed = text.trim();
  return trimmed !== '' && trimmed.length <= 500 && !/\p{Cc}/u.test(trimmed) ? trimmed : undefined;
}

const word = (value: unknown): string | undefined => {
  const text = line(value)?.toLowerCase();
  return text !== undefined && /^[\w.+-]+$/.test(text) ? text : undefined;
};

/** "org/name", also out of a page's address; nothing that is a path on somebody's machine. */
function hubId(value: unknown): string | undefined {
  const text = line(value)
    ?.replace(/^https?:\/\/(?:www\.)?huggingface\.co\//, '')
    .replace(/\/+$/, '');
  return text !== undefined && isHubId(text) ? text : undefined;
}
