# SPDX-License-Identifier: Apache-2.0
"""Every mutation of the store still applies to the sources, exactly once."""
import importlib.util
import pathlib
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("mutate_store", ROOT / "tools/mutate_store.py")
mutate_store = importlib.util.module_from_spec(spec)
spec.loader.exec_module(mutate_store)


class Mutations(unittest.TestCase):
    def test_each_applies_once(self):
        mutations = mutate_store.load()
        self.assertGreaterEqual(len(mutations), 10)
        self.assertEqual(len({mutation["name"] for mutation in mutations}), len(mutations))
        found = [text for mutation in mutations for text in mutate_store.problems(mutation)]
        self.assertEqual(found, [])

    def test_one_that_does_not_apply_is_told(self):
        wrong = {"name": "gone", "edits": [{"file": "src/store/tiers.cc", "old": "no such text",
                                            "new": ""}]}
        self.assertEqual(len(mutate_store.problems(wrong)), 1)


if __name__ == "__main__":
    unittest.main()
