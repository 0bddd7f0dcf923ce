#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the release preset and runs every test of it; ends with ctest's summary.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# Build folders of this and other checkouts share what ccache holds.
export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1

usage() {
  cat <<'TEXT'
usage: ./test.sh [ctest options]
  ./test.sh                 everything
  ./test.sh -L unit         one kind: unit, conformance, golden, fault, e2e, tidy
  ./test.sh -R Tokenizer    by name
Python tests run in the virtual environment .venv (made here from tools/test-requirements.txt), or
with the interpreter named by HGA_PYTHON.
TEXT
}
case "${1:-}" in -h | --help) usage; exit 0 ;; esac

tools/install-deps.sh --test --check ||
  { echo "test.sh: run tools/install-deps.sh --test first" >&2; exit 1; }

# Runs a command with its output in a log; shows the end of the log only if it fails.
quietly() {
  local what=$1 log=$2 started=$SECONDS
  shift 2
  if ! "$@" >"$log" 2>&1; then
    tail -n 60 "$log" >&2
    echo "test.sh: $what failed; its whole log is $log" >&2
    return 1
  fi
  echo "test.sh: $what: $((SECONDS - started)) s" >&2
}

# The network is needed once; a changed list is installed again.
prepare_python() {
  local requirements=tools/test-requirements.txt
  if [[ -n ${HGA_PYTHON:-} || ! -f $requirements ]]; then return; fi
  if ! cmp -s "$requirements" .venv/installed.txt; then
    if quietly "Python packages" build/venv.log bash -c \
      "python3 -m venv .venv && .venv/bin/pip install --quiet -r $requirements"; then
      cp "$requirements" .venv/installed.txt
    else
      echo "test.sh: without these packages some Python tests fail or are skipped" >&2
    fi
  fi
  if [[ -x .venv/bin/python ]]; then export HGA_PYTHON=$PWD/.venv/bin/python; fi
}

# ctest names skipped tests itself; this adds the cases that a Python test skipped, with reasons.
report_skipped_cases() {
  local log=build/release/Testing/Temporary/LastTest.log
  local skipped
  skipped=$(grep -aE "\.\.\. skipped |^skipped: " "$log" 2>/dev/null | sort -u || true)
  if [[ -n $skipped ]]; then
    echo "test.sh: skipped cases:" >&2
    printf '  %s\n' "${skipped//$'\n'/$'\n'  }" >&2
  fi
}

mkdir -p build
quietly "configure" build/test-configure.log cmake --preset release -DHGA_TESTS=ON
quietly "build" build/test-build.log cmake --build --preset release
prepare_python
set +e
ctest --preset release --parallel "$(nproc)" "$@" | tee build/test-ctest.log
status=${PIPESTATUS[0]}
set -e
report_skipped_cases
grep -aE "tests passed, .* tests failed|No tests were found" build/test-ctest.log || true
exit "$status"
