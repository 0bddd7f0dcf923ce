#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Breaks the store in known ways and shows which rig notices: a rig that no mutant turns red proves
nothing.

    tools/mutate_store.py [--only NAME...] [--list] [--scratch DIR] [--out FILE]

Each mutation of tests/fault/mutations.json is applied to a scratch copy of the tree, which is built
(ccache helps) and put through the rigs until one of them fails. Prints a table, and writes it to
FILE; exits 1 if a mutant survives, or if the store fails without one.
"""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
MUTATIONS = "tests/fault/mutations.json"
# In the order in which they are tried. Fewer points and states than in a normal run are enough.
RIGS = [
    ("self-describing K/V", "self_describing_test", "*Simulated*:*WrongDisk*", {"HGA_RIG_RUNS": "40"}),
    ("crash states", "crash_states_test", "*Lost*", {"HGA_CRASH_STATES": "1000"}),
    ("fault loop", "fault_loop_test", "*Simulated*", {"HGA_FAULT_POINTS": "2500"}),
    ("corruptions", "corruption_test", "*", {"HGA_CORRUPTIONS": "60"}),
    ("full disk", "disk_full_test", "*", {}),
    ("histories", "history_test", "*", {}),
]
RIG_SECONDS = 300


def load(root=ROOT):
    return json.loads((root / MUTATIONS).read_text(encoding="utf-8"))


def problems(mutation, root=ROOT):
    """Why a mutation does not apply to the tree; empty if it does."""
    found = []
    for edit in mutation["edits"]:
        count = (root / edit["file"]).read_text(encoding="utf-8").count(edit["old"])
        if count != 1:
            found.append(f"{mutation['name']}: {edit['file']} has {count} times {edit['old']!r}")
    return found


def copy_tree(scratch):
    """The tracked and new files of the tree, without build products."""
    names = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others",
                            "--exclude-standard"], capture_output=True, text=True, check=True)
    for name in filter(None, names.stdout.split("\0")):
        source, target = ROOT / name, scratch / name
        if not source.is_file() or name.startswith("models/"):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists() or target.read_bytes() != source.read_bytes():
            shutil.copy2(source, target)


def build(scratch):
    environment = dict(os.environ, CCACHE_BASEDIR=str(scratch), CCACHE_NOHASHDIR="1")
    if not (scratch / "build/release/build.ninja").exists():
        subprocess.run(["cmake", "--preset", "release", "-DHGA_TESTS=ON"], cwd=scratch,
                       env=environment, check=True, capture_output=True)
    return subprocess.run(["cmake", "--build", "--preset", "release", "--target",
                           *[rig[1] for rig in RIGS]], cwd=scratch, env=environment, check=False,
                          capture_output=True, text=True)


def run_rig(scratch, rig):
    """Whether it passes, and the first line that says why not."""
    _, program, tests, settings = rig
    environment = dict(os.environ, **settings)
    try:
        run = subprocess.run([str(scratch / "build/release/tests" / program),
                              f"--gtest_filter={tests}"], env=environment, check=False,
                             capture_output=True, text=True, errors="replace", timeout=RIG_SECONDS)
    except subprocess.TimeoutExpired:
        return False, f"no end after {RIG_SECONDS} s"
    if run.returncode == 0:
        return True, ""
    lines = [line.strip() for line in (run.stdout + "\n" + run.stderr).split("\n")]
    telling = [line for line in lines if any(word in line for word in (
        "expected sequence", "CHECK", "came back", "computed again", "does not get over", "hangs",
        "is not found", "are available", "are open", "records were lost", "Actual", "actual"))]
    return False, (telling or [f"exit {run.returncode}"])[0][:110]


class Scratch:
    """The copy, with a mutation in it as long as it is needed."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        copy_tree(self.path)

    def edit(self, mutation, back=False):
        # Edits of one file follow one another; undone in the opposite order.
        edits = mutation["edits"][::-1] if back else mutation["edits"]
        for edit in edits:
            path = self.path / edit["file"]
            path.write_text((ROOT / edit["file"]).read_text(encoding="utf-8") if back else
                            path.read_text(encoding="utf-8").replace(edit["old"], edit["new"]),
                            encoding="utf-8")

    def judge(self):
        """Name of the rig that notices (None: none does) and what it says."""
        built = build(self.path)
        if built.returncode != 0:
            errors = [line for line in built.stdout.split("\n") if "error" in line]
            return "compiler", (errors or ["?"])[0][:110]
        for rig in RIGS:
            passes, why = run_rig(self.path, rig)
            if not passes:
                return rig[0], why
        return None, ""


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--scratch", default=str(ROOT / "build/mutants"))
    parser.add_argument("--out")
    options = parser.parse_args()
    mutations = [m for m in load() if not options.only or m["name"] in options.only]
    if options.list:
        print("\n".join(f"{m['name']}: {m['why']}" for m in mutations))
        return 0
    broken = [text for mutation in mutations for text in problems(mutation)]
    if broken:
        print("\n".join(broken))
        return 1
    scratch = Scratch(options.scratch)
    rig, why = scratch.judge()
    if rig is not None:
        print(f"the store itself fails: {rig}: {why}")
        return 1
    rows = ["| mutation | what is wrong | turns red | it says | s |", "|---|---|---|---|---|"]
    survivors = []
    for mutation in mutations:
        started = time.monotonic()
        scratch.edit(mutation)
        try:
            rig, why = scratch.judge()
        finally:
            scratch.edit(mutation, back=True)
        if rig in (None, "compiler"):
            survivors.append(mutation["name"])
        said = why.replace("|", "/")
        rows.append(f"| {mutation['name']} | {mutation['why']} | {rig or 'NOTHING'} | {said} | "
                    f"{time.monotonic() - started:.0f} |")
        print(rows[-1], flush=True)
    summary = f"{len(mutations) - len(survivors)} of {len(mutations)} mutants turn a rig red"
    print(summary)
    if options.out:
        pathlib.Path(options.out).write_text("\n".join([*rows, "", summary, ""]), encoding="utf-8")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
