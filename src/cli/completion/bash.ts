/** For bash: words by command and flag; where there are none, bash completes files. */

import type { Flag, Words } from './vocabulary.ts';
import { quoted } from './vocabulary.ts';

/** @returns the script's text */
export function bash(all: readonly Words[]): string {
  const cases = (label: (words: Words) => string, give: (words: Words) => readonly string[]) =>
    all.map((words) => `    ${label(words)}) echo ${quoted(give(words).join(' '))} ;;`).join('\n');
  const taking = all.flatMap(({ name, flags }) =>
    flags.filter((flag) => flag.takesValue).map((flag) => ({ name, flag })),
  );
  return `# bash completion for lapidary
_lapidary_flags() {
  case $1 in
${cases(
  ({ name }) => name,
  ({ flags }) => flags.map(({ long }) => long),
)}
  esac
}
_lapidary_arguments() {
  case $1 in
${cases(
  ({ name }) => name,
  ({ values }) => values,
)}
  esac
}
# Of a flag: fails where it takes none.
_lapidary_values() {
  case "$1 $2" in
${taking.map(({ name, flag }) => `    ${namesOf(name, flag)}) echo ${quoted((flag.values ?? []).join(' '))} ;;`).join('\n')}
    *) return 1 ;;
  esac
}
# What follows a first word within a value.
_lapidary_then() {
  case "$1 $2 $3" in
${taking.flatMap(({ name, flag }) => [...(flag.after ?? [])].map(([first, words]) => `    ${quoted(`${name} ${flag.long} ${first}`)}) echo ${quoted(words.join(' '))} ;;`)).join('\n')}
  esac
}
_lapidary() {
  local current=$2 flag=$3 command=\${COMP_WORDS[1]} words before=
  # A value behind "=" is a word of its own here.
  if [[ $current == = ]]; then current=; flag=\${COMP_WORDS[COMP_CWORD-1]}
  elif [[ $flag == = ]]; then flag=\${COMP_WORDS[COMP_CWORD-2]}; fi
  COMPREPLY=()
  if (( COMP_CWORD == 1 )); then words=${quoted(all.map(({ name }) => name).join(' '))}
  elif words=$(_lapidary_values "$command" "$flag"); then
    if [[ $current == *' '* ]]; then
      before="\${current% *} "
      words=$(_lapidary_then "$command" "$flag" "\${current%% *}")
    fi
  elif [[ $current == -* ]]; then words=$(_lapidary_flags "$command")
  else words=$(_lapidary_arguments "$command"); fi
  local word
  for word in $words; do
    [[ $before$word == "$current"* ]] && COMPREPLY+=("$before$word")
  done
  [[ \${#COMPREPLY[@]} == 1 && \${COMPREPLY[0]} == *= ]] && compopt -o nospace 2> /dev/null
  return 0
}
complete -o default -F _lapidary lapidary`;
}

/** The patterns of a case, with every way to write the flag. */
const namesOf = (command: string, { long, short }: Flag): string =>
  [long, ...(short ? [short] : [])].map((name) => quoted(`${command} ${name}`)).join('|');
