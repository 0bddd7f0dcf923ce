#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times hga's dense attention against llama.cpp on the same weights, in turns.

    tools/export_gguf.py models/hga-mini /tmp/mini.gguf
    tools/bench_llama_cpp.py --hga build/release/apps/cli/hga --model models/hga-mini \\
        --gguf /tmp/mini.gguf --text FILE [--depths 4096,16384] [--threads 2] [--json FILE]

Prefill feeds `depth` tokens from an empty cache; decode then generates token by token behind them.
Both programs get the same token ids and the same number of threads, and take turns within each
repeat. First both answer one prompt greedily, and the texts are compared: a difference means that
they do not run the same model. llama.cpp runs with its own defaults (batch 2048, part of a batch
512) and with or without flash attention, whichever is faster. Needs numpy and llama-cpp-python
(PyPI).
"""
import argparse
import ctypes
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import llama_cpp
import numpy as np

ANSWER_TOKENS = 48
# llama.cpp reports every tensor; kept here so that it outlives the calls.
SILENT = llama_cpp.llama_log_callback(lambda level, text, user: None)


class Llama:
    """One llama.cpp context, driven through the C interface."""

    def __init__(self, path, capacity, threads, flash):
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
        if not self.model:
            sys.exit(f"{path}: llama.cpp can't load it")
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx = (capacity + 255) // 256 * 256
        settings.n_threads = settings.n_threads_batch = threads
        settings.flash_attn_type = 1 if flash else 0
        settings.no_perf = True
        self.batch = settings.n_batch
        self.context = llama_cpp.llama_init_from_model(self.model, settings)
        if not self.context:
            sys.exit(f"{path}: llama.cpp can't make a context of {settings.n_ctx} tokens")
        self.vocabulary = llama_cpp.llama_model_get_vocab(self.model)
        self.vocabulary_size = llama_cpp.llama_vocab_n_tokens(self.vocabulary)

    def clear(self):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)

    def feed(self, tokens):
        for at in range(0, len(tokens), self.batch):
            piece = tokens[at:at + self.batch]
            ids = (llama_cpp.llama_token * len(piece))(*piece)
            code = llama_cpp.llama_decode(
                self.context, llama_cpp.llama_batch_get_one(ids, len(piece)))
            if code != 0:
                sys.exit(f"llama_decode: error {code}")

    def best(self):
        logits = llama_cpp.llama_get_logits_ith(self.context, -1)
        return int(np.argmax(np.ctypeslib.as_array(logits, (self.vocabulary_size,))))

    def encode(self, text):
        data = text.encode()
        ids = (llama_cpp.llama_token * (len(data) + 16))()
        count = llama_cpp.llama_tokenize(
            self.vocabulary, data, len(data), ids, len(ids), False, False)
        return list(ids[:count])

    def decode(self, tokens):
        text = b""
        buffer = ctypes.create_string_buffer(256)
        for token in tokens:
            size = llama_cpp.llama_token_to_piece(
                self.vocabulary, token, buffer, len(buffer), 0, True)
            text += buffer.raw[:size]
        return text.decode(errors="replace")

    def answer(self, tokens, count):
        self.clear()
        self.feed(tokens)
        found = [self.best()]
        while len(found) < count:
            self.feed(found[-1:])
            found.append(self.best())
        return found

    def prefill_speed(self, tokens):
        self.clear()
        start = time.perf_counter()
        self.feed(tokens)
        self.best()
        return len(tokens) / (time.perf_counter() - start)

    def decode_speed(self, tokens):
        """Behind what has been fed."""
        self.feed(tokens[:1])
        start = time.perf_counter()
        for token in tokens[1:]:
            self.feed([token])
            self.best()
        return (len(tokens) - 1) / (time.perf_counter() - start)


def run_hga(options, arguments):
    command = [options.hga, *arguments, "--model", str(options.model), "--threads",
               str(options.threads), "--quiet"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{run.stderr}")
    return run.stdout


def hga_speed(options, prompt, generate, depth):
    report = json.loads(run_hga(options, [
        "bench", "--attention", "dense", "-p", str(prompt), "-n", str(generate), "-d", str(depth),
        "-r", "1", "--no-roof", "--text", str(options.text), "-o", "json"]))
    row, = report["rows"]
    return row["median_ts"]


def compare_answers(options, llama, tokens):
    """Greedy text of both behind the same tokens; the number of equal characters and both texts."""
    theirs = llama.decode(llama.answer(tokens, ANSWER_TOKENS))
    with tempfile.TemporaryDirectory() as folder:
        ids = pathlib.Path(folder) / "ids.txt"
        ids.write_text(" ".join(map(str, tokens)), encoding="utf-8")
        ours = run_hga(options, ["run", "--prompt-tokens", str(ids), "--attention", "dense",
                                 "--greedy", "--ignore-eos", "-n", str(ANSWER_TOKENS)])
    equal = len(os.path.commonprefix([ours.rstrip("\n"), theirs.rstrip("\n")]))
    return equal, ours.rstrip("\n"), theirs.rstrip("\n")


def measure(options, llamas, tokens):
    rows = []
    for depth in options.depths:
        times = {}
        for repeat in range(options.repeats):
            for flash, llama in llamas.items():
                name = f"llama.cpp, flash attention {'on' if flash else 'off'}"
                prefill = llama.prefill_speed(tokens[:depth])
                decode = llama.decode_speed(tokens[depth:depth + options.generate + 1])
                times.setdefault(("prefill", name), []).append(prefill)
                times.setdefault(("decode", name), []).append(decode)
            times.setdefault(("prefill", "hga dense"), []).append(hga_speed(options, depth, 0, 0))
            times.setdefault(("decode", "hga dense"), []).append(
                hga_speed(options, 0, options.generate, depth))
            print(f"{depth} tokens: repeat {repeat + 1} of {options.repeats}", file=sys.stderr)
        for (what, name), samples in sorted(times.items(), key=lambda item: item[0][0]):
            rows.append({"depth": depth, "what": what, "program": name,
                         "median_ts": statistics.median(samples), "samples_ts": samples})
    return rows


def print_table(rows):
    print(f"{'depth':>7}  {'what':8} {'program':32} {'t/s':>9}  {'hga / llama.cpp':>15}")
    for row in rows:
        ours = next(other for other in rows if other["program"] == "hga dense"
                    and (other["depth"], other["what"]) == (row["depth"], row["what"]))
        ratio = "" if row is ours else f"{ours['median_ts'] / row['median_ts']:.2f}"
        print(f"{row['depth']:>7}  {row['what']:8} {row['program']:32} {row['median_ts']:>9.1f}  "
              f"{ratio:>15}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hga", required=True, help="the program")
    parser.add_argument("--model", required=True, type=pathlib.Path, help="checkpoint directory")
    parser.add_argument("--gguf", required=True, help="the same weights, by tools/export_gguf.py")
    parser.add_argument("--text", required=True, type=pathlib.Path)
    parser.add_argument("--depths", default="4096,16384",
                        type=lambda text: [int(part) for part in text.split(",")])
    parser.add_argument("--generate", type=int, default=32)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", help="write the figures here as well")
    options = parser.parse_args()
    llama_cpp.llama_backend_init()
    llama_cpp.llama_log_set(SILENT, ctypes.c_void_p(0))
    most = max(options.depths) + options.generate + 1
    llamas = {flash: Llama(options.gguf, most, options.threads, flash) for flash in (False, True)}
    text = options.text.read_text(encoding="utf-8")
    tokens = llamas[False].encode(text[:16 * most])[:most]
    if len(tokens) < most:
        sys.exit(f"{options.text}: {len(tokens)} tokens, {most} are needed")
    equal, ours, theirs = compare_answers(options, llamas[False], tokens[:256])
    print(f"greedy answers: {equal} of {len(ours)} characters equal")
    if ours != theirs:
        print(f"  hga:       {ours!r}\n  llama.cpp: {theirs!r}")
    rows = measure(options, llamas, tokens)
    print_table(rows)
    if options.json:
        report = {"threads": options.threads, "llama_cpp_python": llama_cpp.__version__,
                  "equal_characters": equal, "answer_characters": len(ours), "rows": rows}
        pathlib.Path(options.json).write_text(json.dumps(report, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
