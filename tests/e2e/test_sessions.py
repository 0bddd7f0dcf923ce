# SPDX-License-Identifier: Apache-2.0
"""`--session` and `hga session`: what a run leaves for the next one, and what happens to it."""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

from cli_support import HGA, MODEL, STORY, TEXTS, environment, hga, ids_of

RAW = ("--raw", "--ignore-eos")
GREEDY = (*RAW, "--greedy")
RECORD = 32 * 1024  # bytes of a chunk of 64 tokens in one layer of the embedded model


class Sessions(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.kv = self.folder / "kv"
        self.document = self.folder / "document.txt"
        self.document.write_text(TEXTS[0].read_text(encoding="utf-8")[:6000], encoding="utf-8")

    def disk(self):
        # The folder of temporary files may be memory.
        return ("--kv-dir", str(self.kv), "--allow-ram-kv-dir")

    def run_hga(self, *arguments, session="s", model=MODEL, expect=0):
        """`hga run` with a session: the text, the report, stderr."""
        stats = self.folder / "stats.json"
        stats.unlink(missing_ok=True)
        run = hga("run", "-m", model, "--session", session, *self.disk(), "--stats",
                  f"json:{stats}", *arguments, expect=expect)
        report = json.loads(stats.read_text(encoding="utf-8")) if stats.exists() else None
        return run.stdout, report, run.stderr.decode(errors="surrogateescape")

    def ask(self, question, *options, **others):
        return self.run_hga("-f", str(self.document), question, *GREEDY, "-n", "8", *options,
                            **others)

    def session(self, verb, *arguments, expect=0):
        return hga("session", verb, "--kv-dir", str(self.kv), *arguments, expect=expect)

    def listed(self):
        return {s["name"]: s for s in json.loads(self.session("list", "--json").stdout)}

    def records(self):
        return next(self.kv.glob("*/records"))


class Runs(Sessions):
    def test_a_second_question_needs_no_second_prefill(self):
        plain = [hga("run", "-m", MODEL, "-f", str(self.document), q, *GREEDY, "-n", "8").stdout
                 for q in ("Who was she?", "What did he say?")]
        document = len(ids_of(self.document.read_text(encoding="utf-8")))
        first, report, _ = self.ask("Who was she?")
        self.assertEqual(first, plain[0])
        self.assertEqual(report["prompt"]["cached_tokens"], 0)
        second, again, stderr = self.ask("What did he say?")
        self.assertEqual(second, plain[1])
        kept = again["prompt"]["cached_tokens"]
        self.assertGreater(kept, document - 4)
        self.assertEqual(again["session"]["reused_tokens"], kept)
        self.assertEqual(again["session"]["stored_tokens"], report["prompt"]["tokens"] + 8)
        self.assertEqual(again["session"]["dropped_tokens"],
                         again["session"]["stored_tokens"] - kept)
        self.assertRegex(stderr, r"session s: [\d,]+ of the prompt's [\d,]+ tokens are there")
        self.assertLess(again["prompt"]["seconds"], report["prompt"]["seconds"] / 2)
        # Another rule reads the same K/V.
        sparse = self.ask("What did he say?", "--attention", "sparse")[1]
        self.assertEqual(sparse["prompt"]["cached_tokens"], sparse["prompt"]["tokens"] - 1)

    def test_without_a_prompt_it_goes_on_as_if_never_interrupted(self):
        drawn = (*RAW, "--temperature", "1.1", "--top-k", "50")
        whole = hga("run", "-m", MODEL, STORY, *drawn, "--seed", "11", "-n", "24").stdout
        text = self.run_hga(STORY, *drawn, "--seed", "11", "-n", "7")[0]
        for count in ("1", "16"):
            part, report, _ = self.run_hga(*drawn, "-n", count)
            text += part
            self.assertEqual(report["prompt"]["cached_tokens"], report["prompt"]["tokens"] - 1)
        self.assertEqual(text, whole)
        self.assertEqual(self.listed()["s"]["tokens"], len(ids_of(STORY)) + 24)

    def test_the_prompt_decides_what_stays(self):
        answer = self.run_hga(STORY, *GREEDY, "-n", "9")[0]
        again, report, _ = self.run_hga(STORY, *GREEDY, "-n", "9")
        self.assertEqual(again, answer)
        self.assertEqual(report["prompt"]["cached_tokens"], len(ids_of(STORY)) - 1)
        self.assertEqual(report["session"]["dropped_tokens"], 9)

    def test_a_killed_run_goes_on_from_its_last_checkpoint(self):
        drawn = (*RAW, "--temperature", "0.9")
        process = subprocess.Popen(
            [HGA, "run", "-m", MODEL, "--session", "s", *self.disk(), STORY, *drawn, "--seed", "5",
             "-n", "60000", "--checkpoint-every", "8", "-q"], stdout=subprocess.PIPE,
            env=environment())
        seen = b""
        while len(seen) < 150:
            piece = os.read(process.stdout.fileno(), 4096)
            self.assertNotEqual(piece, b"")
            seen += piece
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
        process.stdout.close()
        answered = self.listed()["s"]["tokens"] - len(ids_of(STORY))
        self.assertGreaterEqual(answered, 8)
        self.assertEqual(answered % 8, 0)
        rest = self.run_hga(*drawn, "-n", "20")[0]
        whole = hga("run", "-m", MODEL, STORY, *drawn, "--seed", "5", "-n",
                    str(answered + 20)).stdout
        self.assertTrue(whole.endswith(rest), (whole, rest))

    def test_checkpoints_are_as_frequent_as_asked(self):
        for every, count in ((5, 6), (0, 3), (1, 21)):
            report = self.run_hga(STORY, *GREEDY, "-n", "20", "--checkpoint-every", str(every),
                                  session=f"every {every}")[1]
            # A new session, the prompt, every N tokens but the last, the end.
            self.assertEqual(report["session"]["checkpoints"], count)
            self.assertEqual(report["session"]["failed_checkpoints"], 0)

    def test_only_the_model_that_wrote_it_reads_it(self):
        self.run_hga(STORY, *GREEDY, "-n", "2")
        other = self.folder / "other"
        other.mkdir()
        for path in pathlib.Path(MODEL).iterdir():
            shutil.copy(path, other / path.name)
        config = json.loads((other / "config.json").read_text())
        config["rms_norm_eps"] = 1e-5
        (other / "config.json").write_text(json.dumps(config))
        stderr = self.run_hga(STORY, *GREEDY, "-n", "2", model=str(other), expect=1)[2]
        self.assertIn('session "s"', stderr)
        self.assertIn("was saved for something else: model config", stderr)
        self.session("verify", "s")

    def test_damage_changes_no_answer(self):
        first = self.ask("Who was she?")[0]
        size = self.records().stat().st_size
        data = bytearray(self.records().read_bytes())
        for chunk in (3, 9):  # a chunk is a record of each of the 8 layers
            data[(8 * chunk + 2) * RECORD + 4321] ^= 4
        self.records().write_bytes(data)
        self.assertEqual(self.records().stat().st_size, size)
        stderr = self.session("verify", "s", expect=1).stderr
        self.assertRegex(stderr, rb"2 damaged")
        again, report, said = self.ask("Who was she?", "--kv-host-mem", "4MB")
        self.assertEqual(again, first)
        self.assertGreater(report["kv"]["damaged"], 0)
        self.assertGreater(report["kv"]["recomputed_tokens"], 0)
        self.assertGreater(report["session"]["recomputed_tokens"], 0)
        self.assertIn("computed again", said)
        self.assertRegex(self.session("verify", "s").stdout, rb"0 damaged, 0 missing")

    def test_a_session_that_is_open_is_left_alone(self):
        chat = subprocess.Popen([HGA, "chat", "-m", MODEL, "--session", "s", *self.disk()],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, env=environment())
        while b"/help lists" not in chat.stderr.readline():
            pass
        self.assertEqual(self.listed()["s"]["state"], "in use")
        self.assertIn("another process", self.run_hga(STORY, *GREEDY, expect=1)[2])
        self.session("delete", "s", expect=1)
        self.assertEqual(chat.communicate(b"/exit\n", timeout=60)[0], b"")
        self.run_hga(STORY, *GREEDY, "-n", "1")

    def test_wrong_usage(self):
        for arguments in (["--session", ""], ["--session", "x" * 256],
                          ["--session", "s", "--checkpoint-every", "-1"],
                          ["--session", "s", "--system", "no prompt"], ["--kv-disk", "9XB"]):
            hga("run", "-m", MODEL, *self.disk(), *arguments, expect=2)
        self.assertIn("there is no session", self.run_hga("-n", "1", expect=1)[2])
        self.assertFalse(self.kv.exists() and any(self.kv.glob("*/records")))


class Trouble(Sessions):
    def test_a_full_quota_costs_the_session_not_the_answer(self):
        plain = hga("run", "-m", MODEL, "-f", str(self.document), "q", *GREEDY, "-n", "8").stdout
        refused = self.ask("q", "--kv-disk", "1MB", expect=1)[2]
        self.assertRegex(refused, r"does not fit: the disk needs \d+ bytes and has \d+")
        answer, report, stderr = self.ask("q", "--kv-disk", "1MB", "--allow-overcommit")
        self.assertEqual(answer, plain)
        self.assertEqual(stderr.count("warning"), 1)
        self.assertRegex(stderr, r"not saved, and the run goes on: .*quota of 1048576")
        self.assertGreaterEqual(report["session"]["failed_checkpoints"], 2)
        self.assertIn("quota", report["session"]["error"])
        self.assertIn("quota", report["kv"]["error"])
        self.assertEqual(self.listed()["s"]["tokens"], 0)

    def test_without_room_in_memory_and_on_disk_the_run_ends_in_words(self):
        run = hga("run", "-m", MODEL, "-f", str(self.document), "q", *GREEDY, *self.disk(),
                  "--kv-host-mem", "1MB", "--kv-disk", "1MB", "--allow-overcommit", expect=1)
        self.assertRegex(run.stderr, rb"no room for K/V: all \d+ slots .* cannot be written: "
                                     rb".*quota of 1048576")
        self.assertEqual(run.stdout, b"")

    def test_a_directory_in_memory_is_refused(self):
        if not os.path.isdir("/dev/shm") or not os.access("/dev/shm", os.W_OK):
            self.skipTest("/dev/shm is not there")
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
            arguments = ("run", "-m", MODEL, "--session", "s", "--kv-dir", folder + "/kv", STORY,
                         *GREEDY, "-n", "1")
            self.assertIn(b"which is memory itself", hga(*arguments, expect=1).stderr)
            hga(*arguments, "--allow-ram-kv-dir")

    def test_a_directory_that_cannot_be(self):
        self.kv = self.document / "kv"
        self.assertIn("Not a directory", self.run_hga(STORY, *GREEDY, expect=1)[2])

    def test_the_default_directory_is_made_where_state_belongs(self):
        for name, sub in (("XDG_STATE_HOME", "hga/kv"), ("HOME", ".local/state/hga/kv")):
            home = self.folder / name
            home.mkdir()
            state = {"XDG_STATE_HOME": "", "HOME": str(self.folder), name: str(home)}
            hga("run", "-m", MODEL, "--session", "s", "--allow-ram-kv-dir", STORY, *GREEDY, "-n",
                "1", env=state)
            self.assertEqual(len(list((home / sub).glob("*/records"))), 1)
            self.assertEqual((home / sub).stat().st_mode & 0o077, 0)
            self.assertIn(b"s ", hga("session", "list", env=state).stdout)


class Verbs(Sessions):
    def test_list_verify_delete(self):
        self.assertEqual(json.loads(self.session("list", "--json").stdout), [])
        names = ["plain", "two words", "a\x1b[2J\nb", "ünïcode", b"latin\xe9", "c1\u009b2J", "back\\"]
        for name in names:
            self.run_hga(STORY, *GREEDY, "-n", "1", session=name)
        table = self.session("list").stdout
        self.assertNotIn(b"\x1b", table)
        self.assertNotIn(b"\xc2\x9b", table)
        self.assertEqual(len(table.splitlines()), 1 + len(names))
        table = table.decode("utf-8")
        for shown in ("plain ", "two words ", r"a\x1b[2J\x0ab ", "ünïcode ", r"latin\xe9 ",
                      r"c1\xc2\x9b2J ", r"back\x5c "):
            self.assertIn(shown, table)
        entry = self.listed()["plain"]
        self.assertEqual(entry["tokens"], len(ids_of(STORY)) + 1)
        self.assertEqual(entry["state"], "good")
        self.assertLess(abs(entry["saved_at"] - time.time()), 600)
        self.assertEqual({s["model"] for s in self.listed().values()}, {entry["model"]})
        for name in names:
            self.session("verify", name)
            self.session("delete", name)
        self.assertEqual(self.session("list").stdout, b"")
        for verb in ("verify", "delete"):
            self.assertIn(b"no session", self.session(verb, "plain", expect=1).stderr.lower())
        hga("session", expect=2)
        hga("session", "prune", expect=2)

    def test_prune_removes_the_oldest(self):
        self.run_hga(STORY, *GREEDY, "-n", "1", session="old")
        time.sleep(1.1)  # times are whole seconds
        self.run_hga(STORY, *GREEDY, "-n", "1", session="new")
        size = self.listed()["new"]["bytes"]
        out = self.session("prune", "--quota", str(size), "--json").stdout
        self.assertEqual([s["name"] for s in json.loads(out)], ["old"])
        self.assertEqual(list(self.listed()), ["new"])
        self.session("prune", "--quota", "1GB")
        self.assertEqual(list(self.listed()), ["new"])
        manifests = list(self.kv.glob("*/manifest.*"))
        for manifest in manifests:
            manifest.write_bytes(b"no manifest" * 1000)
        self.assertEqual([s["state"].split(":")[0] for s in self.listed().values()], ["damaged"])
        self.run_hga(STORY, *GREEDY, session="new", expect=1)
        self.session("prune", "--quota", "1GB")
        self.assertEqual(self.listed(), {})


class Chats(Sessions):
    def chat(self, script, *options, session="s", expect=0):
        """Answers as bytes, stderr, the reports of all answers."""
        kept = ("--session", session, *self.disk()) if session else ()
        run = hga("chat", "-m", MODEL, "--greedy", "-n", "6", "--ignore-eos", "--stats", "json",
                  *kept, *options, stdin=script.encode(), expect=expect)
        text = run.stderr.decode()
        decoder = json.JSONDecoder()
        reports = [decoder.raw_decode(text, start.start())[0]
                   for start in re.finditer(r"^\{$", text, re.MULTILINE)]
        return run.stdout, text, reports

    def test_a_conversation_goes_on_in_the_next_run(self):
        whole, _, reports = self.chat("one\ntwo and three\nfour\n", session=None)
        first = self.chat("one\n")[0]
        second, stderr, later = self.chat("two and three\nfour\n")
        self.assertEqual(first + second, whole)
        self.assertIn("goes on after 1 turns", stderr)
        self.assertEqual(later[1]["prompt"]["tokens"], reports[2]["prompt"]["tokens"])
        # The whole first answer is stored, its last token too.
        self.assertEqual(later[0]["prompt"]["cached_tokens"], reports[0]["prompt"]["tokens"] + 6)
        self.session("verify", "s")

    def test_what_is_taken_back_stays_taken_back(self):
        plain = self.chat("Where is the key?\n", session=None)[0]
        self.chat("Something long about nothing\n/undo\n")
        self.assertEqual(self.listed()["s"]["tokens"], 0)
        self.assertEqual(self.chat("Where is the key?\n")[0], plain)
        self.assertEqual(self.chat("/regen\n")[0], plain)
        self.chat("/clear\n")
        self.assertEqual(self.listed()["s"]["tokens"], 0)
        self.assertEqual(self.chat("Where is the key?\n")[0], plain)
        self.assertIn("/undo: there is no turn", self.chat("/undo\n/undo\n", expect=1)[1])

    def test_the_system_message_is_kept(self):
        plain = self.chat("hello\nyou\n", "--system", "Be brief.", session=None)[0]
        text = self.chat("/system Be brief.\nhello\n")[0]
        self.assertEqual(text + self.chat("you\n")[0], plain)

    def test_a_full_context_is_said_and_the_session_stays(self):
        self.chat("hi\n", "--ctx", "96")
        before = self.listed()["s"]["tokens"]
        long = " ".join(str(i) for i in range(60))
        stderr = self.chat(long + "\n", "--ctx", "96", expect=1)[1]
        self.assertRegex(stderr, r"the conversation has \d+ tokens and the context holds 96")
        self.assertEqual(self.listed()["s"]["tokens"], before)
        stderr = self.chat("more\n", "--ctx", "12", expect=1)[1]
        self.assertRegex(stderr, rf"has {before} tokens, the context holds 12")

    def test_runs_and_chats_do_not_mix(self):
        self.chat("hi\n")
        self.assertIn("is a chat", self.run_hga(STORY, *GREEDY, expect=1)[2])
        self.run_hga(STORY, *GREEDY, "-n", "1", session="run")
        self.assertIn("is none of a chat", self.chat("hi\n", session="run", expect=1)[1])
        self.assertEqual(self.listed()["run"]["tokens"], len(ids_of(STORY)) + 1)

    def test_a_killed_answer_is_there_as_far_as_it_came(self):
        process = subprocess.Popen(
            [HGA, "chat", "-m", MODEL, "--greedy", "-n", "60000", "--ignore-eos", "--session", "s",
             *self.disk(), "--checkpoint-every", "4"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment())
        process.stdin.write(b"hello\n")
        process.stdin.flush()
        seen = b""
        while len(seen) < 100:
            piece = os.read(process.stdout.fileno(), 4096)
            self.assertNotEqual(piece, b"")
            seen += piece
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
        out, stderr, reports = self.chat("/regen\nand now?\n")
        self.assertIn("goes on after 1 turns", stderr)
        self.assertEqual(out, self.chat("hello\nand now?\n", session=None)[0])
        self.assertGreater(reports[0]["prompt"]["cached_tokens"], 0)


if __name__ == "__main__":
    unittest.main()
