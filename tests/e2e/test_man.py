# SPDX-License-Identifier: Apache-2.0
"""The manual page that the build made: all of the program's help, and nothing groff objects to.

Environment: HGA_BUILD_DIR (its hga.1), HGA_CLI.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import cli_support

PAGE = pathlib.Path(os.environ.get("HGA_BUILD_DIR", cli_support.ROOT / "build/release")) / "hga.1"
VERBS = ("run", "chat", "eval gap", "eval layers", "eval needle", "bench", "demo", "info",
         "tokenize")


def groff(*arguments):
    return subprocess.run(["groff", "-man", "-Tutf8", *arguments, str(PAGE)], capture_output=True,
                          check=False, text=True, env=os.environ | {"LC_ALL": "C.UTF-8"})


def plain(text):
    """Without terminal controls, hyphenation and line ends."""
    text = re.sub(r"\x1b\[[0-9;]*m|.\x08", "", text)
    return re.sub(r"\s+", " ", re.sub(r"[\u2010-]\n\s*", "", text))


class ManTest(unittest.TestCase):
    @unittest.skipUnless(shutil.which("groff"), "groff is not installed")
    def test_groff_has_no_objection(self):
        checked = groff("-ww", "-z")
        self.assertEqual((checked.returncode, checked.stderr), (0, ""))

    @unittest.skipUnless(shutil.which("groff"), "groff is not installed")
    def test_rendered_page_holds_every_option_of_every_verb(self):
        page = plain(groff("-rLL=2000n", "-rHY=0").stdout)
        flags = set()
        for verb in VERBS:
            self.assertIn(f"hga {verb} ", page)
            found = cli_support.hga(*verb.split(), "--help").stdout.decode()
            flags |= set(re.findall(r"^  (\S*--[a-z][^\s{]*)", found, re.MULTILINE))
            for text in re.findall(r"\(Env:(HGA_\w+)\)", found):
                self.assertIn(f"(Env:{text})", page)
        self.assertGreater(len(flags), 60)
        for flag in flags:
            self.assertIn(flag, page)

    def test_page_is_of_this_program(self):
        with tempfile.TemporaryDirectory() as folder:
            again = pathlib.Path(folder) / "hga.1"
            subprocess.run([sys.executable, str(cli_support.ROOT / "tools/make_man.py"),
                            cli_support.HGA, str(again)], check=True)
            self.assertEqual(PAGE.read_text(encoding="utf-8"), again.read_text(encoding="utf-8"))
            self.assertIn(r"FILE=\(ti/.local/state", PAGE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    unittest.main()
