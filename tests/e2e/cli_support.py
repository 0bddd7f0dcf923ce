# SPDX-License-Identifier: Apache-2.0
"""How the tests of the program `hga` start it and read what it says."""
import json
import os
import pathlib
import select
import signal
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
HGA = os.environ.get("HGA_CLI", str(ROOT / "build/release/apps/cli/hga"))
MODEL = str(ROOT / "models/hga-mini")
TEXTS = sorted((ROOT / "examples/text").glob("*.txt"))
STORY = "It was a dark night, and the old house at the end of the lane"


def environment(**changes):
    """The tests' own environment without any setting of hga in it."""
    kept = {name: value for name, value in os.environ.items()
            if not name.startswith("HGA_") and name not in ("NO_COLOR", "HF_HOME", "HF_HUB_CACHE")}
    kept.update(changes)
    return kept


def hga(*arguments, expect=0, stdin=b"", env=None):
    """Runs to the end; stdout and stderr as bytes."""
    run = subprocess.run([HGA, *arguments], input=stdin, capture_output=True, check=False,
                         env=environment(**(env or {})), timeout=300)
    if run.returncode != expect:
        raise AssertionError(f"hga {' '.join(arguments)}: exit {run.returncode}, wanted {expect}\n"
                             f"{run.stdout!r}\n{run.stderr.decode(errors='replace')}")
    return run


def run_with_stats(*arguments, **options):
    """`hga run` on the embedded model: the text and the report."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "stats.json"
        run = hga("run", "-m", MODEL, "--stats", f"json:{path}", *arguments, **options)
        return run.stdout, json.loads(path.read_text(encoding="utf-8"))


def ids_of(text, *flags):
    out = hga("tokenize", "-m", MODEL, "--text", text, *flags).stdout
    return [int(word) for word in out.split()]


def interrupt_when(arguments, stream, marker, stdin=subprocess.DEVNULL, **options):
    """Starts hga, sends SIGINT once `marker` is in its stdout or stderr, waits for the end.

    Returns the exit code, stdout, stderr and the seconds from the signal to the end.
    """
    process = subprocess.Popen([HGA, *arguments], stdin=stdin, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, env=environment(**options))
    seen = {process.stdout: b"", process.stderr: b""}
    watched = getattr(process, stream)
    sent = None
    deadline = time.monotonic() + 300
    streams = list(seen)
    while streams and time.monotonic() < deadline:
        for pipe in select.select(streams, [], [], 1)[0]:
            data = os.read(pipe.fileno(), 65536)
            seen[pipe] += data
            if not data:
                streams.remove(pipe)
        if sent is None and marker in seen[watched]:
            process.send_signal(signal.SIGINT)
            sent = time.monotonic()
    process.wait(timeout=30)
    if process.stdin:
        process.stdin.close()
    out, err = seen[process.stdout], seen[process.stderr]
    process.stdout.close()
    process.stderr.close()
    if sent is None:
        raise AssertionError(f"{marker!r} never came on {stream}: {err.decode(errors='replace')}")
    return process.returncode, out, err, time.monotonic() - sent
