#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs everything that needs a GPU: conformance of the CUDA backend, memory checks, kernel times.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: tools/gpu_check.sh [--bin DIR] [--out DIR] [--sanitize] [--no-bench] [--bench NAME]
  --bin DIR    where the programs are (build/cuda, or any folder that holds them flat)
  --out DIR    logs (build/gpu-check)
  --sanitize   also run the small cases under compute-sanitizer, if it is installed
  --no-bench   conformance only
  --bench NAME only kernel times whose line contains NAME
Prints a line per program and the kernel times; exits 1 if anything failed.
TEXT
}

bin=build/cuda out=build/gpu-check sanitize=0 bench=1 name=""
while (($# > 0)); do
  case "$1" in
    --bin) bin=$2; shift 2 ;;
    --out) out=$2; shift 2 ;;
    --sanitize) sanitize=1; shift ;;
    --no-bench) bench=0; shift ;;
    --bench) name=$2; shift 2 ;;
    -h | --help) usage; exit 0 ;;
    *) echo "gpu_check: unknown option '$1'" >&2; usage >&2; exit 2 ;;
  esac
done
mkdir -p "$out"
mapfile -t tests < <(find "$bin" -type f -perm -u+x \
  \( -name '*_conformance_test' -o -name 'logits_golden_test' -o -name 'device_test' \) | sort)
if ((${#tests[@]} == 0)); then
  echo "gpu_check: no tests in $bin; build the preset cuda first" >&2
  exit 2
fi

# Tests that run on a GPU are those of the instantiation Cuda.
run_test() {
  local program=$1 log=$2/$(basename "$1").log status=0
  "$program" --gtest_filter='Cuda*' >"$log" 2>&1 || status=$?
  printf '%-36s %s%s\n' "$(basename "$program")" \
    "$(grep -aE '^\[  (PASSED|SKIPPED|FAILED)  ?\] [0-9]+ test' "$log" | tr -s ' \n' ' ' || true)" \
    "$( ((status == 0)) || echo " exit status $status")"
  return "$status"
}

# Small cases only: a checked program is some 20 times slower.
run_sanitizer() {
  local tool=$1 program=$2 filter=$3 log status=0
  log=$4/$(basename "$program").$tool.log
  timeout 200 compute-sanitizer --tool "$tool" --error-exitcode 9 "$program" \
    --gtest_filter="$filter" >"$log" 2>&1 || status=$?
  printf '%-10s %-34s %s\n' "$tool" "$(basename "$program")" \
    "$(grep -aE 'ERROR SUMMARY|RACECHECK SUMMARY' "$log" | tail -n 1) (status $status)"
  return "$status"
}
export -f run_test run_sanitizer

failed=0
printf '%s\n' "${tests[@]}" | xargs -P 8 -I{} bash -c 'run_test "$1" "$2"' _ {} "$out" ||
  failed=1
if ((sanitize)) && command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck; do
    for test in "${tests[@]}"; do echo "$tool $test"; done
  done | xargs -P 8 -L 1 bash -c \
    'run_sanitizer "$1" "$2" "Cuda*EqualsReference*:Cuda*BitEqual*:Cuda*PlansAndTails*" "$0"' \
    "$out" || failed=1
elif ((sanitize)); then
  echo "skipped: no compute-sanitizer"
fi
if ((bench)); then
  program=$(find "$bin" -type f -name cuda_bench | head -n 1)
  if [[ -n $program ]]; then "$program" "$name" 2>&1 | tee "$out/bench.txt" || failed=1; fi
fi
if ((failed)); then
  grep -ahE 'Failure|^\[  FAILED' "$out"/*.log | sort | uniq -c | head -n 40 || true
  echo "gpu_check: FAILED; logs in $out"
  exit 1
fi
echo "gpu_check: passed"
