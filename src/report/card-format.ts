/** What a format tells the model card: how its files are used. */

import type { WrittenFile } from '../export/written.ts';
import type { Model } from '../models/model.ts';

/** What a format's examples hang on. */
export interface CardFacts {
  /** The folder's name. */
  readonly name: string;
  readonly file: WrittenFile;
  /** Whether it has a chat template, and so takes messages. */
  readonly chat: boolean;
  /** As it stands in the file. */
  readonly model: Model;
}

/** Lines that run as they stand. */
export interface Example {
  /** One line of Markdown: where and how. */
  readonly title: string;
  readonly language: string;
  readonly code: string;
}

/** What a card tells of the format. */
export interface CardFormat {
  /** As hubs name what loads it. */
  readonly library?: string | undefined;
  readonly tags: readonly string[];
  readonly usage: readonly Example[];
}
