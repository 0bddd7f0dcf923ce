#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""examples/make_document.py: each fact stands once in the document, prompts end with its question."""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SCRIPT = str(ROOT / "examples/make_document.py")


def make(folder, *arguments):
    return subprocess.run([sys.executable, SCRIPT, "--out", str(folder), *arguments],
                          capture_output=True, text=True, check=False)


class MakeDocumentTest(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = pathlib.Path(holder.name)

    def test_facts_prompts_and_answers_belong_together(self):
        result = make(self.folder, "--seed", "5", "--facts", "6", "--kilobytes", "30")
        self.assertEqual(result.returncode, 0, result.stderr)
        document = (self.folder / "document.txt").read_text()
        answers = json.loads((self.folder / "answers.json").read_text())
        self.assertEqual((answers["seed"], len(answers["facts"])), (5, 6))
        paragraphs = document.rstrip("\n").split("\n\n")
        for fact in answers["facts"]:
            sentence = f"The secret number for the {fact['key']} is {fact['number']}."
            self.assertEqual(paragraphs[fact["paragraph"]], sentence)
            self.assertEqual(document.count(fact["key"]), 1)
            prompt = (self.folder / fact["prompt"]).read_text()
            self.assertTrue(prompt.startswith(document))
            self.assertTrue(prompt.endswith(f"The secret number for the {fact['key']} is"))

    def test_seed_repeats(self):
        for name in ("a", "b"):
            make(self.folder / name, "--seed", "9", "--kilobytes", "10")
        self.assertEqual((self.folder / "a/document.txt").read_text(),
                         (self.folder / "b/document.txt").read_text())

    def test_too_short_a_text_names_both_numbers(self):
        result = make(self.folder, "--kilobytes", "100000")
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stderr, r"has \d+ bytes, 100000000 are wanted")


if __name__ == "__main__":
    unittest.main()
