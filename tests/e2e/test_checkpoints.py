# SPDX-License-Identifier: Apache-2.0
"""`hga info` over broken checkpoints, over every stored form and over a 30B's 37,491 headers."""
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest

import malformed_models

ROOT = pathlib.Path(__file__).resolve().parents[2]
CLI = os.environ.get("HGA_CLI", str(ROOT / "build/release/apps/cli/hga"))
COMMAND = [CLI, "info", "-m", "{model}"]
SANITIZED = b"__asan_init" in pathlib.Path(CLI).read_bytes()


def make(tool, *arguments):
    subprocess.run([sys.executable, str(ROOT / "tools" / tool), *map(str, arguments)], check=True,
                   stdout=subprocess.DEVNULL)


def info(directory, *arguments):
    return subprocess.run([CLI, "info", "-m", str(directory), *arguments], text=True,
                          capture_output=True, check=False, timeout=120)


class CheckpointsTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.out = pathlib.Path(folder.name).resolve() / "out"

    def test_broken_checkpoints_get_one_clear_message(self):
        make("make_malformed.py", self.out)
        options = malformed_models.parse_options(
            ["--revision-flag=--revision", "--good-fragment="] +
            (["--sanitizer"] if SANITIZED else []) + [str(self.out), *COMMAND])
        failures, count = malformed_models.check_corpus(self.out, options)
        self.assertGreaterEqual(count, 600)
        self.assertEqual(failures, [])

    @unittest.skipUnless(importlib.util.find_spec("numpy"), "numpy is not installed")
    def test_every_stored_form_is_sound(self):
        make("make_tiny_checkpoint.py", self.out, "--all")
        manifest = json.loads((self.out / "manifest.json").read_text(encoding="utf-8"))
        self.assertEqual(len(manifest), 96)
        for name, variant in manifest.items():
            checked = info(self.out / name, "--check")
            self.assertEqual(checked.returncode, 0, f"{name}: {checked.stderr}")
            facts = json.loads(info(self.out / name, "--json").stdout)["model"]
            self.assertEqual(facts["family"], variant["family"], name)
            self.assertEqual(facts["weight_format"].split("-")[0], variant["dtype"], name)
            self.assertEqual(facts["shards"], variant["shards"], name)
            self.assertEqual(facts["tied_embeddings"], variant["tied"], name)
            self.assertEqual(facts["rope_theta"], 1e6, name)

    def test_headers_and_plan_of_a_30b_take_seconds(self):
        make("make_synthetic_30b.py", self.out)
        start = time.monotonic()
        run = info(self.out, "--json")
        seconds = time.monotonic() - start
        self.assertEqual(run.returncode, 0, run.stderr)
        facts = json.loads(run.stdout)["model"]
        self.assertEqual(facts["tensors"], 37491)
        self.assertEqual(facts["parameters"], 30_532_122_624)
        self.assertEqual(facts["shards"], 7)
        print(f"index, headers and plan of 37,491 tensors: {seconds:.2f} s")
        self.assertLess(seconds, 10)


if __name__ == "__main__":
    unittest.main()
