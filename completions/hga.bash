# SPDX-License-Identifier: Apache-2.0
# Completion of `hga` for bash. Verbs and options are asked of the program itself, so this file
# cannot fall behind it. Source it, or install it as share/bash-completion/completions/hga.

# Words of `hga VERB... --help` that match a pattern, one per line.
_hga_help() {
  local pattern=$1
  shift
  "${_hga_program:-hga}" "$@" --help 2>/dev/null | grep -oE -- "$pattern" | sort -u
}

_hga_verbs() {
  "${_hga_program:-hga}" "$@" --help 2>/dev/null |
    sed -n '/^Subcommands:/,/^$/s/^  \([a-z][a-z-]*\) .*/\1/p'
}

_hga() {
  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
  local _hga_program=${COMP_WORDS[0]}
  local verbs=() i verb
  for ((i = 1; i < COMP_CWORD; ++i)); do
    verb=${COMP_WORDS[i]}
    [[ $verb == -* || ${#verbs[@]} -ge 2 ]] && break
    verbs+=("$verb")
  done
  COMPREPLY=()
  case $before in
    -a | --attention)
      mapfile -t COMPREPLY < <(compgen -W "$(_hga_help 'attention: .*' "${verbs[@]}" |
        sed 's/attention: //; s/,//g')" -- "$word")
      return ;;
    -o | --output) mapfile -t COMPREPLY < <(compgen -W "md csv json jsonl" -- "$word"); return ;;
    --color) mapfile -t COMPREPLY < <(compgen -W "auto on off" -- "$word"); return ;;
    --isa) mapfile -t COMPREPLY < <(compgen -W "auto ssse3 avx2 avx3 avx3_bf16" -- "$word"); return ;;
    --key-mean) mapfile -t COMPREPLY < <(compgen -W "rotated mixed_rope" -- "$word"); return ;;
    --scope) mapfile -t COMPREPLY < <(compgen -W "kv_head query_head" -- "$word"); return ;;
    --summary-dtype) mapfile -t COMPREPLY < <(compgen -W "fp8 bf16" -- "$word"); return ;;
    --stats) mapfile -t COMPREPLY < <(compgen -W "none text json json:" -- "$word"); return ;;
    --kv-io) mapfile -t COMPREPLY < <(compgen -W "auto io_uring threads" -- "$word"); return ;;
    --tier) mapfile -t COMPREPLY < <(compgen -W "memory disk memory,disk" -- "$word"); return ;;
    --kv-dir) mapfile -t COMPREPLY < <(compgen -d -- "$word"); return ;;
    --load-format) mapfile -t COMPREPLY < <(compgen -W "auto dummy" -- "$word"); return ;;
    -m | --model) mapfile -t COMPREPLY < <(compgen -d -- "$word"); return ;;
  esac
  if [[ $word == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$(_hga_help '--[a-z][a-z-]+' "${verbs[@]}")" -- "$word")
    return
  fi
  local below
  below=$(_hga_verbs "${verbs[@]}")
  if [[ -n $below ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$below" -- "$word")
  else
    mapfile -t COMPREPLY < <(compgen -f -- "$word")
  fi
}

complete -o filenames -F _hga hga
