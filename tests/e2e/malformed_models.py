#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Drives a program over the corpus of tools/make_malformed.py and compares with its golden list.

    tests/e2e/malformed_models.py [--sanitizer] [--jobs N] CORPUS PROGRAM [ARGUMENT ...]

The arguments form one command in which {model} becomes the case's directory or id; --check-flag
and --revision-flag say how the program spells those. Each run must end in time (2 s of processor time), with the expected
exit code, one error message with the expected text and nothing a terminal could obey, within the
memory limit (64 MB and 4 times the JSON to be read; not judged with --sanitizer).
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

SECONDS = 2.0
BASE_BYTES = 64 << 20


def command_of(case, corpus, options):
    model = case["model"]
    if (corpus / model).exists() or "/not/" in model:
        model = str(corpus / model)
    command = [part.replace("{model}", model) for part in options.command]
    if case["check"]:
        command += [options.check_flag]
    if case["revision"]:
        command += [*options.revision_flag.split(), case["revision"]]
    return command


def run(command, env, seconds):
    """(exit code, stdout, stderr, processor seconds, peak bytes) of one program run."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.monotonic()
        with subprocess.Popen(command, stdout=out, stderr=err, stdin=subprocess.DEVNULL,
                              env=env) as process:
            pid, status = 0, 0
            while pid == 0:
                pid, status, usage = os.wait4(process.pid, os.WNOHANG)
                if pid == 0 and time.monotonic() - start > 10 * seconds:  # the machine may be busy
                    process.kill()
                    pid, status, usage = os.wait4(process.pid, 0)
                time.sleep(0.002)
            process.returncode = os.waitstatus_to_exitcode(status)
        taken = usage.ru_utime + usage.ru_stime
        if time.monotonic() - start > 10 * seconds:
            taken = 10 * seconds
        out.seek(0)
        err.seek(0)
        return process.returncode, out.read(), err.read(), taken, usage.ru_maxrss * 1024


def judge(case, corpus, options):
    """None, or what is wrong."""
    env = os.environ | {key: str(corpus / value) for key, value in case["env"].items()}
    seconds = SECONDS * (20 if options.sanitizer else 1)
    code, out, err, taken, peak = run(command_of(case, corpus, options), env, seconds)
    text = err.decode("utf-8", "replace")
    if taken > seconds:
        return f"took more than {seconds} s"
    if code != case["exit"]:
        return f"exit code {code}, not {case['exit']}: {text[-2000:]}"
    where = out.decode("utf-8", "replace") if case["exit"] == 0 else text
    fragment = options.good_fragment if case["exit"] == 0 and options.good_fragment is not None \
        else case["fragment"]
    if fragment not in where:
        return f"{fragment!r} is not in {where[-2000:]!r}"
    if case["exit"] != 0 and sum("error" in line for line in text.splitlines()) != 1:
        return f"not exactly one line with an error: {text[-2000:]!r}"
    if any(byte < 0x20 and byte != 0x0A for byte in err) or "\x7f" in text:
        return f"control characters in the message: {err[-500:]!r}"
    if "\ufffd" in text or any("\x80" <= c < "\xa0" for c in text):
        return f"the message is no clean UTF-8: {err[-500:]!r}"
    limit = BASE_BYTES + 4 * case["json_bytes"]
    if not options.sanitizer and peak > limit:
        return f"took {peak >> 20} MiB, allowed are {limit >> 20}"
    return None


def check_corpus(corpus, options):
    """Failures as (name, what), and the number of cases."""
    cases = json.loads((corpus / "cases.json").read_text(encoding="utf-8"))
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        found = list(pool.map(lambda case: judge(case, corpus, options), cases))
    return [(case["name"], what) for case, what in zip(cases, found) if what], len(cases)


def parse_options(arguments):
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("corpus", type=pathlib.Path)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    parser.add_argument("--check-flag", default="--check")
    parser.add_argument("--revision-flag", default="")
    parser.add_argument("--good-fragment", help="instead of the summary the test driver prints")
    parser.add_argument("--sanitizer", action="store_true")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args(arguments)
    if not any("{model}" in part for part in options.command):
        options.command.append("{model}")
    return options


def main():
    options = parse_options(None)
    failures, count = check_corpus(options.corpus.resolve(), options)
    for name, what in failures:
        print(f"{name}: {what}")
    print(f"{count} cases, {len(failures)} wrong")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
