/** For zsh: words with what they mean; where there are none, zsh completes files. */

import type { Flag, Words } from './vocabulary.ts';
import { quoted } from './vocabulary.ts';

/** @returns the script's text, which may be sourced or stand in a file of $fpath */
export function zsh(all: readonly Words[]): string {
  const each = (line: (words: Words) => string) => all.map((words) => `    ${line(words)}`).join('\n');
  const taking = all.flatMap(({ name, flags }) =>
    flags.filter((flag) => flag.takesValue).map((flag) => ({ name, flag })),
  );
  return `#compdef lapidary
_lapidary_flags() {
  case $1 in
${each(({ name, flags }) => `${name}) reply=(${flags.map(({ long, help }) => described(long, help)).join(' ')}) ;;`)}
  esac
}
_lapidary_arguments() {
  case $1 in
${each(({ name, values }) => `${name}) reply=(${values.map(quoted).join(' ')}) ;;`)}
  esac
}
# Of a flag: fails where it takes none.
_lapidary_values() {
  case "$1 $2" in
${taking.map(({ name, flag }) => `    ${namesOf(name, flag)}) reply=(${(flag.values ?? []).map(quoted).join(' ')}) ;;`).join('\n')}
    *) return 1 ;;
  esac
}
# What follows a first word within a value.
_lapidary_then() {
  case "$1 $2 $3" in
${taking.flatMap(({ name, flag }) => [...(flag.after ?? [])].map(([first, words]) => `    ${quoted(`${name} ${flag.long} ${first}`)}) reply=(${words.map(quoted).join(' ')}) ;;`)).join('\n')}
  esac
}
_lapidary() {
  local -a reply
  local command=$words[2] current=\${(Q)words[CURRENT]} flag=$words[CURRENT-1]
  if (( CURRENT == 2 )); then
    reply=(${all.map(({ name, help }) => described(name, help)).join(' ')})
    _describe command reply
    return
  fi
  if [[ $current == --*=* ]]; then
    flag=\${current%%=*}
    compset -P '*='
  fi
  if _lapidary_values "$command" "$flag"; then
    if [[ $PREFIX == *' '* ]]; then
      local first=\${\${PREFIX%% *}//\\\\/}
      compset -P '* '
      reply=()
      _lapidary_then "$command" "$flag" "$first"
      compadd -S '' -a reply
      return
    fi
    (( $#reply )) && compadd -a reply || _files
  elif [[ $current == -* ]]; then
    _lapidary_flags "$command"
    _describe -o flag reply
  else
    _lapidary_arguments "$command"
    (( $#reply )) && compadd -a reply || _files
  fi
}
compdef _lapidary lapidary`;
}

/** "word:what it means" */
const described = (word: string, help: string): string => quoted(`${word}:${help.replaceAll(':', ' -')}`);

const namesOf = (command: string, { long, short }: Flag): string =>
  [long, ...(short ? [short] : [])].map((name) => quoted(`${command} ${name}`)).join('|');
