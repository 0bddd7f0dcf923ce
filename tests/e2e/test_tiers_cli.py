# SPDX-License-Identifier: Apache-2.0
"""K/V under a budget of memory, as the program shows it: plan, budgets, back ends, bench --tier."""
import json
import pathlib
import tempfile
import unittest

from cli_support import MODEL, TEXTS, hga, run_with_stats

SHARES = ("program_bytes", "weight_bytes", "dense_bytes", "window_bytes", "summary_bytes", "table_bytes",
          "host_bytes", "staging_bytes", "scratch_bytes")


class TierTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.disk = ("--kv-dir", str(self.folder / "kv"), "--allow-ram-kv-dir")


class Plan(TierTest):
    def plan(self, *arguments, expect=0):
        run = hga("info", MODEL, "--json", *self.disk, *arguments, expect=expect)
        return json.loads(run.stdout)["memory"]

    def test_the_shares_make_the_sum(self):
        memory = self.plan("--ctx", "65536")
        self.assertEqual(memory["kv_bytes"], 65536 * 8192)
        self.assertEqual(memory["dense_bytes"], memory["kv_bytes"])
        self.assertEqual((memory["host_bytes"], memory["disk_bytes"]), (0, 0))
        tiered = self.plan("--ctx", "65536", "--kv-host-mem", "32MB")
        self.assertEqual(tiered["host_bytes"], 32 << 20)
        self.assertEqual(tiered["dense_bytes"], memory["kv_bytes"] // 8)  # layer 0
        self.assertEqual(tiered["disk_bytes"], memory["kv_bytes"] * 7 // 8)
        session = self.plan("--ctx", "65536", "--kv-host-mem", "32MB", "--for-session")
        self.assertEqual(session["disk_bytes"], memory["kv_bytes"])
        for plan in (memory, tiered, session):
            self.assertEqual(plan["total_bytes"], sum(plan[share] for share in SHARES))
            self.assertTrue(plan["fits"])
            self.assertEqual(plan["why"], "")
        sparse = self.plan("--ctx", "65536", "--kv-host-mem", "32MB", "--attention", "sparse")
        self.assertEqual(sparse["dense_bytes"], 0)
        self.assertLess(sparse["total_bytes"], tiered["total_bytes"])

    def test_what_does_not_fit_is_named_with_both_numbers(self):
        plan = self.plan("--ctx", "65536", "--kv-host-mem", "32MB", "--kv-device-mem", "8MB")
        self.assertFalse(plan["fits"])
        self.assertEqual(plan["why"], f"what stays in memory needs {plan['device_bytes']} bytes "
                                      f"and has {8 << 20}")
        plan = self.plan("--ctx", "65536", "--kv-host-mem", "32MB", "--kv-disk", "100MB")
        self.assertIn(f"the disk needs {plan['disk_bytes']} bytes and has {100 << 20}",
                      plan["why"])
        text = hga("info", MODEL, *self.disk, "--ctx", "65536", "--kv-host-mem", "32MB").stdout
        for word in (b"windows and samples", b"opened cells", b"on disk", b"fits"):
            self.assertIn(word, text)
        run = hga("run", "-m", MODEL, "x", "--raw", *self.disk, "--kv-device-mem", "1MB", expect=1)
        self.assertIn(b"what stays in memory needs", run.stderr)

    def test_sizes(self):
        def shown(size):
            out = hga("run", "-m", MODEL, "x", "--kv-host-mem", size, "--print-config").stdout
            return [line for line in out.decode().splitlines() if "kv-host-mem" in line][0]
        for size, value in (("1GB", 1 << 30), ("1gib", 1 << 30), ("1073741824", 1 << 30),
                            ("3 MB", 3 << 20), ("0", 0)):
            self.assertEqual(shown(size), f"kv-host-mem = {value}")
        for size in ("1XB", "-1", "1.5GB", "999999999TB", "many"):
            hga("run", "-m", MODEL, "x", "--kv-host-mem", size, expect=2)


class Budgets(TierTest):
    def test_answers_do_not_depend_on_budgets_and_back_ends(self):
        document = self.folder / "document.txt"
        document.write_text(TEXTS[0].read_text(encoding="utf-8")[:9000], encoding="utf-8")
        arguments = ("-f", str(document), "Who?", "--raw", "--greedy", "--ignore-eos", "-n", "24")
        expected, plain = run_with_stats(*arguments)
        self.assertNotIn("kv", plain)
        for io in ("threads", "auto"):
            with self.subTest(io):
                text, stats = run_with_stats(*arguments, *self.disk, "--kv-host-mem", "3MB",
                                             "--kv-io", io)
                self.assertEqual(text, expected)
                kv = stats["kv"]
                self.assertIn(kv["io"], ("threads",) if io == "threads" else ("threads", "io_uring"))
                if kv["io"] == "threads" and io == "auto":
                    self.assertNotEqual(kv["io_note"], "")  # says what was refused
                self.assertGreater(kv["reads"], 0)
                self.assertGreater(kv["evictions"], 0)
                self.assertEqual((kv["damaged"], kv["error"]), (0, ""))
                for part in ("prompt", "decode"):
                    self.assertLessEqual(0, kv[part]["hit_rate"])
                    self.assertLessEqual(kv[part]["hit_rate"] + kv[part]["prefetch_rate"], 1)
                    self.assertLessEqual(0, kv[part]["stall_share"])
                self.assertGreater(kv["decode"]["reads_per_token"], 0)
                self.assertGreaterEqual(kv["decode"]["read_bytes_per_token"],
                                        4096 * kv["decode"]["reads_per_token"])
        self.assertEqual(list((self.folder / "kv").glob("*/records")), [])

    def test_the_plan_and_the_back_end_are_said(self):
        run = hga("run", "-m", MODEL, "x", "--raw", "-n", "1", *self.disk, "--kv-host-mem", "4MB",
                  "-v")
        self.assertRegex(run.stderr, rb"memory for [\d,]+ tokens of 8.00 KiB K/V each")
        self.assertRegex(run.stderr, rb"K/V records: (io_uring|threads) in ")
        self.assertRegex(run.stderr, rb"K/V, prefill: [\d.]+ % of wanted cells in memory")
        quiet = hga("run", "-m", MODEL, "x", "--raw", "-n", "1")
        self.assertNotIn(b"memory for", quiet.stderr)

    def test_too_little_for_one_query_is_said(self):
        document = self.folder / "document.txt"
        document.write_text(TEXTS[0].read_text(encoding="utf-8")[:12000], encoding="utf-8")
        run = hga("run", "-m", MODEL, "-f", str(document), "--raw", "-n", "1", *self.disk,
                  "--kv-host-mem", "4096", "--span", "64", "--groups-budget", "512", expect=1)
        self.assertRegex(run.stderr, rb"a query opens up to 1024 cells and \d+ have room; give the "
                                     rb"K/V more memory")
        self.assertEqual(run.stdout, b"")

    def test_needles_are_found_from_disk(self):
        out = hga("eval", "needle", "-m", MODEL, "--text", str(TEXTS[0]), "--ctx", "2048",
                  "--facts", "1", "--depths", "50", "--documents", "1", "--json", "-", *self.disk,
                  "--kv-host-mem", "3MB").stdout
        rows = json.loads(out)["rows"]
        self.assertEqual([row["attention"] for row in rows], ["dense", "default"])
        self.assertEqual([row["found"] for row in rows], [1, 1])


class Bench(TierTest):
    def test_memory_and_disk_side_by_side(self):
        report = json.loads(hga(
            "bench", "-m", MODEL, "--tier", "memory,disk", "-d", "2048", "-n", "8", "-r", "2",
            "-a", "dense,default", "--text", str(TEXTS[0]), "--kv-host-mem", "3MB", "-o", "json",
            *self.disk).stdout)
        disk = report["disk"]
        self.assertGreater(disk["random_reads_per_second"], 0)
        self.assertIsInstance(disk["direct"], bool)
        self.assertEqual(report["kv_host_bytes"], 3 << 20)
        rows = {(row["attention"], row["tier"]): row for row in report["rows"]}
        # Dense attention keeps all of its K/V in memory.
        self.assertEqual(set(rows), {("dense", "memory"), ("default", "memory"),
                                     ("default", "disk")})
        for row in rows.values():
            self.assertEqual((row["n_depth"], row["n_gen"]), (2048, 8))
            self.assertEqual(len(row["samples_s"]), 2)
            self.assertGreater(row["median_ts"], 0)
            self.assertGreater(row["open_s"], 0)
        row = rows["default", "disk"]
        memory = rows["default", "memory"]
        self.assertAlmostEqual(row["ratio_to_memory"], row["median_ts"] / memory["median_ts"])
        limit = min(memory["median_ts"], disk["random_reads_per_second"] / row["reads_per_token"])
        self.assertAlmostEqual(row["limit_ts"], limit)
        self.assertAlmostEqual(row["share_of_limit"], row["median_ts"] / limit)
        self.assertLess(row["slots_share"], 0.5)
        self.assertGreater(row["reads_per_token"], 0)
        self.assertGreaterEqual(row["read_bytes_per_token"], 4096 * row["reads_per_token"])
        self.assertLessEqual(row["read_p50_us"], row["read_p99_us"])
        self.assertEqual(row["damaged"], 0)
        self.assertEqual(list((self.folder / "kv").glob("*/records")), [])

    def test_the_table(self):
        run = hga("bench", "-m", MODEL, "--tier", "disk,memory", "-d", "512,1024", "-n", "2", "-r",
                  "1", "-a", "sparse", "--kv-host-mem", "3MB", "--no-roof", *self.disk)
        rows = [line for line in run.stdout.decode().splitlines() if line.startswith("|")]
        self.assertEqual(len(rows), 2 + 2 * 2)
        self.assertIn(b"memory for 1,026 tokens", run.stderr)

    def test_wrong_usage(self):
        bench = ("bench", "-m", MODEL, *self.disk)
        self.assertIn(b"--kv-host-mem", hga(*bench, "--tier", "disk", expect=2).stderr)
        hga(*bench, "--tier", "tape", "--kv-host-mem", "1MB", expect=2)
        hga(*bench, "--tier", "disk", "-n", "0", "--kv-host-mem", "1MB", expect=2)
        self.assertIn(b"dense", hga(*bench, "--kv-host-mem", "1MB", expect=2).stderr)
        run = hga("bench", "-m", MODEL, "-p", "0", "-n", "1", "-d", "65536", "--no-roof", expect=1)
        self.assertIn(b"65537", run.stderr)
        self.assertIn(b"--allow-past-limit", run.stderr)


if __name__ == "__main__":
    unittest.main()
