# SPDX-License-Identifier: Apache-2.0
"""Logits of every stored form of both families against Hugging Face `transformers`.

The recorded logits, what they mean and where their bounds come from: tools/golden_transformers.py.
Where torch and transformers are installed, some checkpoints are also compared with a live run.

Environment: HGA_BUILD_DIR (its tests/logits_driver is the program under test).
"""
import hashlib
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/golden/data/transformers"
DRIVER = os.path.join(os.environ.get("HGA_BUILD_DIR", ROOT / "build/release"),
                      "tests", "logits_driver")
sys.path.insert(0, str(ROOT / "tools"))
import golden_transformers  # noqa: E402

LIVE = ("qwen3-f16-tied-sharded-old", "qwen3_moe-bf16-untied-single-new",
        "qwen3_moe-fp8-f16-untied-sharded-old", "qwen3_moe-f32-tied-single-old",
        "extra-shares-as-they-are")
HAVE_TRANSFORMERS = all(map(importlib.util.find_spec, ("torch", "transformers")))


def run_engine(folders, ids):
    """{name: float32 [tokens, vocab]} of this engine, all in one process."""
    for name, folder in folders.items():
        ids[name].astype("<i4").tofile(folder / "ids.bin")
    done = subprocess.run([DRIVER, *map(str, folders.values())], capture_output=True, text=True,
                          check=False, timeout=600)
    if done.returncode:
        raise AssertionError(f"{DRIVER}: exit {done.returncode}: {done.stderr}")
    return {name: np.fromfile(folder / "logits.bin", "<f4").reshape(len(ids[name]), -1)
            for name, folder in folders.items()}


class TransformersGoldenTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.manifest = json.loads((GOLDEN / "manifest.json").read_text(encoding="utf-8"))
        cls.entries = {entry["name"]: entry for entry in cls.manifest["checkpoints"]}
        names = list(cls.entries)
        cls.ids = dict(zip(names, np.load(GOLDEN / "ids.npy"), strict=True))
        cls.golden = dict(zip(names, np.load(GOLDEN / "logits.npy"), strict=True))
        cls.folders = golden_transformers.make_checkpoints(pathlib.Path(folder.name).resolve())
        cls.digests = {name: golden_transformers.digest(folder)
                       for name, folder in cls.folders.items()}
        cls.engine = run_engine(cls.folders, cls.ids)

    def stored_rows(self, name):
        return self.engine[name][self.manifest["positions"]]

    def test_golden_files_are_as_recorded(self):
        for name, recorded in self.manifest["sha256"].items():
            self.assertEqual(hashlib.sha256((GOLDEN / name).read_bytes()).hexdigest(), recorded)

    def test_checkpoints_are_those_of_the_recording(self):
        self.assertEqual(list(self.folders), list(self.entries))
        self.assertEqual(len(self.folders), 96 + len(golden_transformers.EXTRA))
        for name, entry in self.entries.items():
            self.assertEqual(self.digests[name], entry["sha256"], name)

    def test_every_form_has_the_logits_of_transformers(self):
        ratios = {}
        for name, entry in self.entries.items():
            apart = np.abs(self.stored_rows(name).astype(np.float64) - self.golden[name])
            self.assertTrue(np.isfinite(apart).all(), name)
            self.assertLess(entry["bound"], entry["rms"] / 20, name)
            ratios[name] = apart.max() / entry["bound"]
            if ratios[name] == max(ratios.values()):
                row, token = np.unravel_index(apart.argmax(), apart.shape)
                worst = (f"{name}, position {self.manifest['positions'][row]}, token {token}: "
                         f"|difference| {apart.max():.3g}, bound {entry['bound']:.3g}, "
                         f"rms of the logits {entry['rms']:.3g}")
        print(f"{len(ratios)} checkpoints, transformers {self.manifest['transformers']}: "
              f"|difference| / bound at most {max(ratios.values()):.3f}, median "
              f"{np.median(list(ratios.values())):.3f}; worst: {worst}")
        self.assertEqual([n for n, ratio in ratios.items() if ratio > 1], [])

    def test_a_bound_tells_every_checkpoint_from_the_next(self):
        names = list(self.entries)
        for name, other in zip(names, names[1:] + names[:1]):
            apart = np.abs(self.stored_rows(name) - self.golden[other]).max()
            self.assertGreater(apart, 10 * self.entries[name]["bound"], name)

    def test_live(self):
        if not HAVE_TRANSFORMERS:
            print("skipped: transformers is not installed")
            self.skipTest("transformers is not installed")
        for name in LIVE:
            live = golden_transformers.Oracle(self.folders[name]).logits(self.ids[name])
            apart = np.abs(self.engine[name].astype(np.float64) - live).max()
            bound = self.entries[name]["bound"]
            print(f"{name}: live |difference| {apart:.3g} at all {len(live)} positions, "
                  f"bound {bound:.3g}")
            self.assertLessEqual(apart, bound, name)


if __name__ == "__main__":
    unittest.main()
