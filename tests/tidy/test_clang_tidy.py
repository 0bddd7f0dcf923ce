#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Shows that the checks of .clang-tidy are switched on: naming fires where it should, only there."""
import pathlib
import re
import shutil
import subprocess
import unittest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
NAMING = "readability-identifier-naming"
MOST_CHECKS = 25
BAD = ["BadNamespace", "bad_struct", "BadMember", "bad_Method", "missing_suffix", "bad_constant",
       "bad_constexpr", "bad_function", "BadParameter", "BadVariable"]


@unittest.skipUnless(shutil.which("clang-tidy"), "clang-tidy is not installed")
class ClangTidyTest(unittest.TestCase):
    def run_on(self, name):
        command = ["clang-tidy", "--quiet", f"--config-file={ROOT}/.clang-tidy", str(HERE / name),
                   "--", "-std=c++20"]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def test_every_bad_name_is_an_error(self):
        result = self.run_on("bad_names.cc")
        reported = re.findall(r"error: invalid case style for .* '(\w+)' \[" + NAMING,
                              result.stdout)
        self.assertEqual(sorted(reported), sorted(BAD))
        self.assertNotEqual(result.returncode, 0, "warnings must be errors")

    def test_good_names_pass(self):
        result = self.run_on("good_names.cc")
        self.assertEqual((result.returncode, result.stdout), (0, ""))

    def test_list_stays_short_and_exists(self):
        text = (ROOT / ".clang-tidy").read_text()
        listed = re.findall(r"^  ([a-z][\w.\-]+),?$", text, re.M)
        self.assertLessEqual(len(listed), MOST_CHECKS)
        known = subprocess.run(["clang-tidy", "--checks=*", "--list-checks"], capture_output=True,
                               text=True, check=True).stdout.split()
        self.assertEqual([name for name in listed if name not in known], [])


if __name__ == "__main__":
    unittest.main()
