#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# From a fresh checkout to the main job: builds hga and lets the embedded model answer questions
# about facts hidden in a 32K-token document.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# Build folders of this and other checkouts share what ccache holds.
export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1

usage() {
  cat <<'TEXT'
usage: ./quickstart.sh [--yes] [--long] [--compare] [--seed N] [hga demo options]
  --yes      install missing packages without asking
  --long     a document of 64K tokens instead of 32K
  --compare  also read the document with dense attention and show both times
  --seed N   repeat a run: the same facts at the same places
Everything else is passed on to `hga demo` (see build/release/apps/cli/hga demo --help).
TEXT
}

context=32768 install=() demo=()
while (($#)); do
  case "$1" in
    --yes | -y) install+=(--yes) ;;
    --long) context=65536 ;;
    -h | --help) usage; exit 0 ;;
    *) demo+=("$1") ;;
  esac
  shift
done

echo "== 1/3 packages" >&2
tools/install-deps.sh "${install[@]}"

echo "== 2/3 build (release, into build/release)" >&2
started=$SECONDS
mkdir -p build
log=build/quickstart.log
# The tests need more packages; a build folder that has them already keeps them.
configure=(cmake --preset release)
if ! grep -qs '^HGA_TESTS:BOOL=ON' build/release/CMakeCache.txt; then
  configure+=(-DHGA_TESTS=OFF)
fi
if ! { "${configure[@]}" && cmake --build --preset release --target hga_cli; } >"$log" 2>&1
then
  tail -n 40 "$log" >&2
  echo "quickstart: the build failed; its whole log is $log" >&2
  exit 1
fi
echo "built in $((SECONDS - started)) s" >&2

echo "== 3/3 the main job: a document of $context tokens, facts in it, questions at its end" >&2
exec build/release/apps/cli/hga demo --model models/hga-mini --ctx "$context" \
  --text examples/text/middlemarch.txt "${demo[@]}"
