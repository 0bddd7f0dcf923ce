# SPDX-License-Identifier: Apache-2.0
"""The verbs `eval` and `bench` on the embedded model: laws that hold for any text and machine."""
import csv
import importlib.util
import io
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
HGA = os.environ.get("HGA_CLI", str(ROOT / "build/release/apps/cli/hga"))
MODEL = str(ROOT / "models/hga-mini")
TEXTS = sorted(str(path) for path in (ROOT / "examples/text").glob("*.txt"))


def hga(*arguments, expect=0):
    run = subprocess.run([HGA, *arguments], capture_output=True, text=True, check=False)
    if run.returncode != expect:
        raise AssertionError(f"hga {' '.join(arguments)}: exit {run.returncode}, wanted {expect}\n"
                             f"{run.stdout}\n{run.stderr}")
    return run


def report(*arguments):
    return json.loads(hga(*arguments, "--model", MODEL, "--json", "-").stdout)


class EvalTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.text = TEXTS[0]
        # A second text: the same from its middle.
        data = pathlib.Path(cls.text).read_text(encoding="utf-8")
        cls.other = str(pathlib.Path(cls.folder.name) / "other.txt")
        pathlib.Path(cls.other).write_text(data[len(data) // 2:], encoding="utf-8")

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()


class GapTest(EvalTest):
    def test_no_gap_while_the_windows_meet(self):
        figures = report("eval", "gap", "--text", self.text, "--ctx", "640", "--attention",
                         "default,exact,paper,window,sparse")
        self.assertEqual(figures["ranges"], ["0-640"])
        self.assertEqual([row["attention"] for row in figures["rows"]],
                         ["dense", "default", "exact", "paper", "window", "sparse"])
        for row in figures["rows"]:
            self.assertLess(abs(row["gap"][0]), 1e-4, row)
            self.assertLess(row["kl"][0], 1e-4, row)
            self.assertGreater(row["top1"][0], 0.99, row)
            self.assertEqual(row["visible"][0], 1, row)

    def test_a_budget_of_everything_is_dense(self):
        all_groups = "exact:groups_budget=4096"
        figures = report("eval", "gap", "--text", self.text, "--ctx", "2048", "--attention",
                         f"{all_groups},window")
        dense, everything, window = figures["rows"]
        self.assertEqual(everything["attention"], all_groups)
        self.assertLess(abs(everything["gap"][0]), 2e-3)
        self.assertLess(everything["kl"][0], 2e-3)
        self.assertEqual(everything["visible"][0], 1)
        self.assertGreater(window["kl"][0], 10 * everything["kl"][0])
        self.assertLess(window["visible"][0], 0.95)
        self.assertEqual(dense["kl"][0], 0)

    def test_figures_agree_with_each_other(self):
        figures = report("eval", "gap", "--text", self.text, self.other, "--ctx", "4500",
                         "--attention", "default,window,default:summary_dtype=bf16")
        self.assertEqual(figures["ranges"], ["0-4K", "4K-4500"])
        self.assertEqual(len(figures["texts"]), 2)
        for place, row in enumerate(figures["rows"]):
            dense = figures["rows"][0]
            for part in range(2):
                self.assertAlmostEqual(row["gap"][part], row["loss"][part] - dense["loss"][part],
                                       places=9)
                for name in ("loss", "kl", "top1", "visible", "fetched"):
                    mean = sum(text["rows"][place][name][part] for text in figures["texts"]) / 2
                    self.assertAlmostEqual(row[name][part], mean, places=9, msg=name)
        _, default, window, bf16 = figures["rows"]
        self.assertLess(default["kl"][1], window["kl"][1])
        self.assertLess(default["visible"][1], default["visible"][0])
        self.assertLess(abs(default["loss"][1] - bf16["loss"][1]), 0.02)
        self.assertNotEqual(default["loss"], bf16["loss"])

    def test_checkpoint_takes_up_finished_texts(self):
        path = pathlib.Path(self.folder.name) / "gap.jsonl"
        arguments = ["eval", "gap", "--text", self.text, self.other, "--ctx", "1024",
                     "--attention", "window", "--checkpoint", str(path)]
        first = report(*arguments)
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        self.assertEqual(len(lines), 2)
        path.write_text(lines[0] + lines[1][:50] + "\n", encoding="utf-8")  # cut short
        run = hga(*arguments, "--model", MODEL, "--json", "-")
        self.assertEqual(run.stderr.count("taken from the checkpoint"), 1)
        self.assertEqual(json.loads(run.stdout), first)
        # Another rule is another run.
        run = hga(*arguments[:-3], "window:sink_chunks=1", *arguments[-2:], "--model", MODEL)
        self.assertNotIn("taken from the checkpoint", run.stderr)

    def test_wrong_rules_are_named(self):
        for spec, message in (("default:nope=1", "nope"), ("default:group", "field=value"),
                              ("default:group=x", "whole number"), ("dense:group=4", "no fields"),
                              ("default:scope=all", "kv_head or query_head"),
                              ("default:group=7", "7"), ("unheard", "unheard")):
            run = hga("eval", "gap", "--text", self.text, "--ctx", "64", "--model", MODEL,
                      "--attention", spec, expect=2)
            self.assertIn(message, run.stderr, spec)

    def test_a_text_too_short_is_refused(self):
        path = pathlib.Path(self.folder.name) / "short.txt"
        path.write_text("Only a few words.", encoding="utf-8")
        run = hga("eval", "gap", "--text", str(path), "--ctx", "4096", "--model", MODEL, expect=1)
        self.assertIn("4,096", run.stderr)

    def test_picture(self):
        if importlib.util.find_spec("matplotlib") is None:
            self.skipTest("matplotlib is not installed")
        figures = pathlib.Path(self.folder.name) / "figures.json"
        picture = pathlib.Path(self.folder.name) / "figures.png"
        run = hga("eval", "gap", "--text", self.text, "--ctx", "700", "--attention", "window",
                  "--model", MODEL, "--json", str(figures))
        self.assertIn("0-700", run.stdout)
        subprocess.run([sys.executable, ROOT / "tools/plot_gap.py", figures, picture], check=True)
        self.assertEqual(picture.read_bytes()[:8], b"\x89PNG\r\n\x1a\n")


class LayersTest(EvalTest):
    def test_errors_per_layer(self):
        figures = report("eval", "layers", "--text", self.text, "--ctx", "2048", "--stride", "32",
                         "--attention", "window,default,exact:groups_budget=4096")
        self.assertEqual(len(figures["layers"]), 8)
        window, default, everything = (row["relative_error"] for row in figures["rows"])
        self.assertEqual(figures["rows"][1]["kind"], ["dense"] + 7 * ["routed"])
        self.assertEqual(default[0], 0)  # dense in this preset
        for layer in range(8):
            self.assertLess(everything[layer], 0.02, layer)
            self.assertGreater(window[layer], everything[layer], layer)
            self.assertGreater(figures["layers"][layer]["entropy"], 0)
            self.assertGreater(figures["layers"][layer]["queries"], 0)
            self.assertGreater(figures["layers"][layer]["mass_beyond_windows"], 0)
            self.assertLess(figures["layers"][layer]["mass_beyond_windows"], 1)
        self.assertLess(sum(default[1:]), sum(window[1:]))


class NeedleTest(EvalTest):
    ARGUMENTS = ("eval", "needle", "--ctx", "4096", "--depths", "25,50,75", "--facts", "2",
                 "--documents", "1", "--seed", "7")

    def test_window_misses_what_dense_finds(self):
        figures = report(*self.ARGUMENTS, "--text", self.text, "--attention",
                         "exact:groups_budget=4096,window")
        dense, everything, window = figures["rows"]
        self.assertEqual(figures["seed"], 7)
        self.assertEqual([row["asked"] for row in figures["rows"]], [6, 6, 6])
        self.assertEqual(dense["asked_by_depth"], [2, 2, 2])
        self.assertGreaterEqual(dense["found"], 5)
        self.assertEqual(everything["found_by_depth"], dense["found_by_depth"])
        self.assertEqual(window["found"], 0)
        missed = [miss for miss in figures["misses"] if miss["attention"] == "window"]
        self.assertEqual(len(missed), 6)
        for miss in missed:
            self.assertIn("opened by 0 of", miss["plan"])
            self.assertNotIn(miss["number"], miss["answer"])
        again = report(*self.ARGUMENTS, "--text", self.text, "--attention", "window")
        self.assertEqual(again["rows"][0]["found_by_depth"], dense["found_by_depth"])

    def test_bad_requests(self):
        run = hga("eval", "needle", "--text", self.text, "--model", MODEL, "--depths", "10,10",
                  expect=2)
        self.assertIn("twice", run.stderr)
        run = hga("eval", "needle", "--text", self.text, "--model", MODEL, "--facts", "64",
                  "--ctx", "1024", expect=2)
        self.assertIn("facts", run.stderr)


class BenchTest(EvalTest):
    ARGUMENTS = ("bench", "--model", MODEL, "-p", "96", "-n", "4", "-d", "0,700-900+200", "-r", "2",
                 "--no-roof", "--attention", "dense,default,sparse:groups_budget=16")

    def test_grid(self):
        figures = json.loads(hga(*self.ARGUMENTS, "--pg", "32+2", "-o", "json").stdout)
        rows = figures["rows"]
        self.assertEqual([(row["n_depth"], row["test"]) for row in rows[::3]],
                         [(depth, test) for depth in (0, 700, 900)
                          for test in ("pp96", "tg4", "pp32+tg2")])
        for row in rows:
            self.assertEqual(len(row["samples_s"]), 2)
            self.assertGreater(row["avg_ts"], 0)
            tokens = row["n_prompt"] + row["n_gen"]
            speeds = sorted(tokens / seconds for seconds in row["samples_s"])
            self.assertAlmostEqual(row["median_ts"], sum(speeds) / 2, delta=1e-6 * speeds[1])
            self.assertGreater(row["attention_bytes_per_token"], 0)
            if row["attention"] == "dense":
                self.assertEqual(row["ratio_to_dense"], 1)
                self.assertEqual(row["visible"], 1)
        deep = {row["attention"]: row for row in rows
                if row["n_depth"] == 900 and row["test"] == "tg4"}
        self.assertLess(deep["sparse:groups_budget=16"]["visible"], 0.95)

    def test_forms(self):
        lines = hga(*self.ARGUMENTS, "-o", "jsonl").stdout.splitlines()
        self.assertEqual(len(lines), 3 * 2 * 3)
        self.assertEqual(json.loads(lines[0])["attention"], "dense")
        table = list(csv.DictReader(io.StringIO(hga(*self.ARGUMENTS, "-o", "csv").stdout)))
        self.assertEqual(len(table), 3 * 2 * 3)
        self.assertEqual(table[1]["attention"], "default")
        markdown = hga(*self.ARGUMENTS).stdout
        self.assertEqual(sum(line.startswith("|") for line in markdown.splitlines()), 2 + 18)

    def test_dummy_weights(self):
        figures = json.loads(hga(*self.ARGUMENTS[:-2], "--attention", "default", "--load-format",
                                 "dummy", "-o", "json").stdout)
        self.assertGreater(figures["rows"][0]["avg_ts"], 0)
        self.assertIsNone(figures["rows"][0]["ratio_to_dense"])

    def test_roof(self):
        roof = json.loads(hga("bench", "--roof", "--threads", "1", "-o", "json").stdout)
        self.assertGreater(roof["memory_gb_s"], 0.5)
        self.assertGreater(roof["matrix_gflop_s"], 1)
        self.assertTrue(roof["matrix_kernels"])

    def test_bad_grids(self):
        for option, value in (("-p", "x"), ("-p", "-1"), ("-d", "5-9"), ("-d", "5-9+0"),
                              ("-d", "0-9*2"), ("-n", "1-9*1"), ("--pg", "5"),
                              ("-d", "99999999999999999999")):
            run = hga("bench", "--model", MODEL, f"{option}={value}" if option == "--pg" else option,
                      *([] if option == "--pg" else [value]), "--no-roof", expect=2)
            self.assertTrue(run.stderr.strip(), (option, value))
        run = hga("bench", "--model", MODEL, "-p", "0", "-n", "0", expect=2)
        self.assertIn("nothing to measure", run.stderr)


if __name__ == "__main__":
    unittest.main()
