/** For fish, which is told of each flag in a line; it completes files by itself. */

import type { Flag, Words } from './vocabulary.ts';
import { quoted } from './vocabulary.ts';

/** @returns the script's text */
export function fish(all: readonly Words[]): string {
  return [
    '# fish completion for lapidary',
    ...all.flatMap(({ name, flags }) => flags.flatMap((flag) => thenOf(name, flag))),
    ...all.map(
      ({ name, help }) =>
        `complete -c lapidary -n __fish_use_subcommand -f -a ${quoted(name)} -d ${quoted(help)}`,
    ),
    ...all.flatMap(({ name, flags, values }) => {
      const start = `complete -c lapidary -n ${quoted(`__fish_seen_subcommand_from ${name}`)}`;
      return [
        ...(values.length > 0 ? [`${start} -f -a ${quoted(values.join(' '))}`] : []),
        ...flags.map((flag) => `${start} ${said(name, flag)} -d ${quoted(flag.help)}`),
      ];
    }),
  ].join('\n');
}

function said(command: string, { long, short, takesValue, values, after }: Flag): string {
  const name = `-l ${long.slice(2)}${short ? ` -s ${short.slice(1)}` : ''}`;
  if (!takesValue) return name;
  if (after) return `${name} -x -a ${quoted(`(${functionOf(command, long)})`)}`;
  return values ? `${name} -x -a ${quoted(values.join(' '))}` : `${name} -r`;
}

const functionOf = (command: string, long: string): string => `__lapidary_${command}_${long.slice(2)}`;

/** A function for values of several words: the first, then what may follow it. */
function thenOf(command: string, { long, values, after }: Flag): string[] {
  if (!after) return [];
  const cases = [...after].map(
    ([first, words]) => `    case ${quoted(first)}\n      printf '%s\\n' "$before"${`{${words.join(',')}}`}`,
  );
  return [
    `function ${functionOf(command, long)}
  set -l token (commandline -ct | string trim -l -c '"\\'')
  set -l words (string split ' ' -- $token)
  if test (count $words) -lt 2
    printf '%s\\n' ${(values ?? []).join(' ')}
    return
  end
  set -l before (string join ' ' -- $words[1..-2])' '
  switch $words[1]
${cases.join('\n')}
  end
end`,
  ];
}
