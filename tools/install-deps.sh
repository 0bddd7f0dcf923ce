#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The one list of Debian and Ubuntu packages this project needs, and the way to install them.
set -euo pipefail

build_packages=(
  build-essential cmake ninja-build pkg-config ccache
  libhwy-dev libopenblas-serial-dev libcli11-dev libpcre2-dev libutf8proc-dev
  libsimdjson-dev nlohmann-json3-dev libfmt-dev libspdlog-dev libxxhash-dev
  liburing-dev libssl-dev libedit-dev
  libboost1.81-dev prometheus-cpp-dev python3
)
# On top of those: unit tests, Python tests, static checks, sanitizers, fuzzing and benchmarks.
test_packages=(
  libgtest-dev libgmock-dev librapidcheck-dev libbenchmark-dev
  python3-venv clang clang-tidy clang-format libclang-rt-dev groff-base chromium
)

usage() {
  cat <<'TEXT'
usage: tools/install-deps.sh [--test] [--yes] [--check | --list]
  --test   also what the tests and the static checks need
  --yes    install without asking
  --check  install nothing; exit 1 if something is missing
  --list   print the packages, one a line
TEXT
}

with_test=0 yes=0 mode=install
for argument in "$@"; do
  case "$argument" in
    --test) with_test=1 ;;
    --yes | -y) yes=1 ;;
    --check) mode=check ;;
    --list) mode=list ;;
    -h | --help) usage; exit 0 ;;
    *) echo "install-deps: unknown option '$argument'" >&2; usage >&2; exit 2 ;;
  esac
done

packages=("${build_packages[@]}")
if ((with_test)); then packages+=("${test_packages[@]}"); fi
if [[ $mode == list ]]; then
  printf '%s\n' "${packages[@]}"
  exit 0
fi

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "install-deps: this is no Debian or Ubuntu machine; it needs the equivalents of:" >&2
  echo "  ${packages[*]}" >&2
  # Without dpkg nothing can be checked: the build itself names what it does not find.
  if [[ $mode == check ]]; then exit 1; else exit 0; fi
fi

missing=()
for package in "${packages[@]}"; do
  state=$(dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null || true)
  if ! grep -qx installed <<<"$state"; then missing+=("$package"); fi
done
if ((${#missing[@]} == 0)); then
  echo "install-deps: all ${#packages[@]} packages are installed" >&2
  exit 0
fi
echo "install-deps: missing ${#missing[@]} of ${#packages[@]} packages: ${missing[*]}" >&2
if [[ $mode == check ]]; then exit 1; fi

sudo=()
if ((EUID != 0)); then
  if command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [[ -t 0 ]]; }; then
    sudo=(sudo)
  else
    echo "install-deps: installing needs root. Run this line as root, then start again:" >&2
    echo "  apt-get update && apt-get install --no-install-recommends -y ${missing[*]}" >&2
    exit 1
  fi
fi
if ((!yes)); then
  if [[ ! -t 0 ]]; then
    echo "install-deps: no terminal to ask on; start again with --yes, or run:" >&2
    echo "  ${sudo[*]:+${sudo[*]} }apt-get install --no-install-recommends -y ${missing[*]}" >&2
    exit 1
  fi
  read -r -p "Install them with apt-get now? [y/N] " answer
  if [[ ! $answer =~ ^[Yy] ]]; then
    echo "install-deps: nothing was installed" >&2
    exit 1
  fi
fi

# The environment variable goes behind sudo, which would drop it.
apt=("${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get)
install=("${apt[@]}" install --no-install-recommends -y "${missing[@]}")
# Package lists are fetched where there are none, and where they turn out too old.
have_lists() { compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null; }
if ! have_lists || ! "${install[@]}"; then
  "${apt[@]}" update
  "${install[@]}"
fi
