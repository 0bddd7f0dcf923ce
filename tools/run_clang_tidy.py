#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs clang-tidy over the project's own sources within a time budget, newest changes first.

    tools/run_clang_tidy.py --build build/release [--seconds 600] [--jobs 2] [FILE...]

Exits 1 on any finding. What the budget did not reach is counted and named.
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CHECKED = ("src/", "apps/", "bench/")


def sources(build):
    """Compiled sources of the project, the most recently committed or edited ones first."""
    database = json.loads((build / "compile_commands.json").read_text())
    paths = {os.path.relpath(os.path.join(entry["directory"], entry["file"]), ROOT)
             for entry in database}
    mine = [path for path in paths if path.startswith(CHECKED)]
    order = newest_first()
    return sorted(mine, key=lambda path: (order.get(path, len(order)), path))


def newest_first():
    """Path -> rank: uncommitted files, then by last commit. Empty without git."""
    def git(*arguments):
        result = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True,
                                text=True, check=False)
        return result.stdout.split("\n") if result.returncode == 0 else []
    names = [line[3:] for line in git("status", "--short", "--untracked-files=all")]
    names += git("log", "-n", "500", "--name-only", "--format=")
    ranks = {}
    for name in names:
        ranks.setdefault(name, len(ranks))
    return ranks


def check(path, build, deadline):
    """(path, output, seconds); output is None when the budget was spent before it began."""
    if time.monotonic() > deadline:
        return path, None, 0.0
    started = time.monotonic()
    result = subprocess.run(["clang-tidy", "--quiet", "-p", str(build), path], cwd=ROOT,
                            capture_output=True, text=True, check=False)
    output = result.stdout.strip()
    if result.returncode != 0 and not output:
        output = result.stderr.strip() or f"clang-tidy ended with status {result.returncode}"
    return path, output, time.monotonic() - started


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("files", nargs="*")
    options = parser.parse_args()
    deadline = time.monotonic() + options.seconds
    build = options.build.resolve()
    paths = options.files or sources(build)
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        results = list(pool.map(lambda path: check(path, build, deadline), paths))
    failed = [path for path, output, _ in results if output]
    skipped = [path for path, output, _ in results if output is None]
    for path, output, seconds in results:
        if output:
            print(f"-- {path} ({seconds:.0f} s)\n{output}")
    if skipped:
        print(f"skipped: {len(skipped)} files beyond {options.seconds:.0f} s: {' '.join(skipped)}")
    print(f"clang-tidy: {len(results) - len(skipped)} of {len(results)} files checked, "
          f"{len(failed)} with findings")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
