#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`hga demo` on the embedded model: answers come from the document, figures are consistent."""
import json
import os
import pathlib
import re
import subprocess
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CLI = os.environ.get("HGA_CLI", str(ROOT / "build/release/apps/cli/hga"))
TEXT = str(ROOT / "examples/text/middlemarch.txt")
CTX, FACTS = 3072, 3


def demo(*arguments, text=TEXT, ctx=CTX):
    command = [CLI, "demo", "--quiet", "--model", str(ROOT / "models/hga-mini"), "--text", text,
               "--ctx", str(ctx), "--facts", str(FACTS), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)


def report(seed, *arguments):
    result = demo("--seed", str(seed), "--json", "-", *arguments)
    if result.returncode != 0:
        raise AssertionError(f"status {result.returncode}: {result.stderr}")
    return json.loads(result.stdout)


class DemoTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.first = report(11, "--compare")

    def test_finds_the_facts(self):
        rows = {row["attention"]: row for row in self.first["rows"]}
        self.assertEqual(set(rows), {"default", "dense"})
        for name, row in rows.items():
            self.assertEqual(row["found"], FACTS, f"{name}: {row['answers']}")
            for fact, answer in zip(self.first["facts"], row["answers"]):
                self.assertTrue(answer.startswith(" " + fact["number"]), (name, fact, answer))

    def test_shares_of_the_context(self):
        routed, dense = self.first["rows"]
        self.assertAlmostEqual(dense["all_layers"]["visible"], 1.0, places=6)
        # At 3K tokens the windows hold about 700 and 1,024 are opened; layer 0 sees everything.
        self.assertLess(routed["without_dense_layers"]["visible"], 0.7)
        self.assertGreater(routed["without_dense_layers"]["visible"], 0.4)
        self.assertGreater(routed["all_layers"]["visible"],
                           routed["without_dense_layers"]["visible"])
        for row in (routed, dense):
            self.assertGreater(row["decode_tokens_per_second"], 0)
            self.assertGreater(row["prefill_seconds"], 0)

    def test_a_seed_repeats_and_another_does_not(self):
        again, other = report(11), report(12)
        self.assertEqual(again["facts"], self.first["facts"])
        self.assertEqual(again["rows"][0]["answers"], self.first["rows"][0]["answers"])
        self.assertNotEqual(other["facts"], self.first["facts"])
        self.assertNotIn("prefill_seconds", again["rows"][1])  # only with --compare

    def test_without_a_seed_one_is_drawn_and_named(self):
        result = demo()
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertRegex(result.stdout, r"--seed \d+ repeats this run")
        self.assertRegex(result.stdout, r"found +of 3 +\d +\d")

    def test_a_text_that_is_too_short(self):
        result = demo(text=str(ROOT / "examples/text/README.md"))
        self.assertEqual(result.returncode, 1)
        self.assertTrue(re.search(r"README.md: the text has \d+ tokens.* needs \d+", result.stderr),
                        result.stderr)
        self.assertEqual(result.stdout, "")

    def test_a_text_that_is_not_there(self):
        result = demo(text=str(ROOT / "examples/text/nothing.txt"))
        self.assertEqual(result.returncode, 1)
        self.assertIn("nothing.txt", result.stderr)


if __name__ == "__main__":
    unittest.main()
