# SPDX-License-Identifier: Apache-2.0
"""The program `hga` as scripts see it: exit codes, streams, settings, refusals."""
import errno
import json
import os
import pathlib
import pty
import shutil
import subprocess
import tempfile
import unittest

from cli_support import (HGA, MODEL, ROOT, STORY, TEXTS, environment, hga, ids_of, interrupt_when,
                         run_with_stats)

RAW = ("--raw", "--greedy")


def stderr_on_a_terminal(*arguments, **changes):
    """stderr of a run whose stderr is a terminal."""
    master, slave = pty.openpty()
    process = subprocess.Popen([HGA, *arguments], stdin=subprocess.DEVNULL, stderr=slave,
                               stdout=subprocess.DEVNULL,
                               env=environment(TERM="xterm", **changes))
    os.close(slave)
    seen = b""
    while True:
        try:
            data = os.read(master, 65536)
        except OSError as error:  # the other end is closed
            if error.errno != errno.EIO:
                raise
            break
        if not data:
            break
        seen += data
    process.wait(timeout=60)
    os.close(master)
    return seen


class FolderTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def file(self, name, data):
        path = pathlib.Path(self.folder.name) / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return str(path)


class ExitCodes(unittest.TestCase):
    def test_asking_for_help_is_no_error(self):
        self.assertIn(b"hga run", hga("run", "--help").stdout)
        self.assertIn(b"--top-p", hga("--help-all").stdout)
        self.assertRegex(hga("--version").stdout, rb"^hga \d+\.\d+\.\d+")
        self.assertRegex(hga("--list-devices").stdout, rb"^cpu: .*\d+ threads")

    def test_wrong_usage_is_2_and_says_nothing_on_stdout(self):
        wrong = [
            [], ["walk"], ["run"], ["run", "-m", MODEL], ["run", "-m", MODEL, "a", "b"],
            ["run", "-m", MODEL, "a", "--bogus"], ["run", "-m", MODEL, "a", "-n", "0"],
            ["run", "-m", MODEL, "a", "-n", "x"], ["run", "-m", MODEL, "a", "--span", "0"],
            ["run", "-m", MODEL, "a", "--attention", "nope"],
            ["run", "-m", MODEL, "a", "--attention", "dense", "--group", "4"],
            ["run", "-m", MODEL, "a", "--group", "7"],
            ["run", "-m", MODEL, "a", "--dense-layers", "0,x"],
            ["run", "-m", MODEL, "a", "--sampled-layers", "0"],
            ["run", "-m", MODEL, "a", "--temperature", "-1"],
            ["run", "-m", MODEL, "a", "--top-p", "0"],
            ["run", "-m", MODEL, "a", "--greedy", "--temperature", "1"],
            ["run", "-m", MODEL, "a", "--stop", ""],
            ["run", "-m", MODEL, "a", "--stats", "xml"],
            ["run", "-m", MODEL, "-", "-f", "-"],
            ["run", "-m", MODEL, "a", "--raw", "--system", "b"],
            ["run", "-m", MODEL, "a", "--prompt-tokens", "ids"],
            ["tokenize", "-m", MODEL], ["tokenize", "-m", MODEL, "a", "--ids", "1"],
        ]
        for arguments in wrong:
            with self.subTest(arguments=arguments):
                run = hga(*arguments, expect=2)
                self.assertEqual(run.stdout, b"")
                self.assertNotEqual(run.stderr, b"")

    def test_a_run_that_fails_is_1(self):
        for arguments in (["run", "-m", "/nowhere/at/all", "a"],
                          ["run", "-m", MODEL, "a", "--logit-bias", "9999999=1"],
                          ["info", "/nowhere/at/all"]):
            with self.subTest(arguments=arguments):
                run = hga(*arguments, expect=1)
                self.assertEqual(run.stdout, b"")
                self.assertIn(b"hga: error: ", run.stderr)

    def test_a_full_stdout_is_an_error_not_a_crash(self):
        with open("/dev/full", "wb") as full:
            run = subprocess.run([HGA, "run", "-m", MODEL, "hi", "--raw", "-n", "8"], stdout=full,
                                 stderr=subprocess.PIPE, check=False, env=environment(),
                                 timeout=120)
        self.assertEqual(run.returncode, 1)
        self.assertIn(b"stdout: write: ", run.stderr)


class Streams(FolderTest):
    def test_stdout_is_the_text_and_nothing_else(self):
        arguments = ("run", "-m", MODEL, STORY, *RAW, "-n", "12", "--ignore-eos")
        quiet = hga(*arguments, "--quiet")
        loud = hga(*arguments, "-v", "--color", "on")
        self.assertEqual(quiet.stdout, loud.stdout)
        self.assertEqual(quiet.stderr, b"")
        self.assertNotEqual(quiet.stdout, b"")
        self.assertNotIn(b"hga:", loud.stdout)
        self.assertNotIn(b"\x1b", loud.stdout)
        quiet.stdout.decode("utf-8")
        for word in (b"prompt:", b"answer:", b"decode:", b"peak memory", b"memory for"):
            self.assertIn(word, loud.stderr)

    def test_progress_is_lines_without_a_terminal_and_a_bar_on_one(self):
        text = TEXTS[0].read_text(encoding="utf-8")[:12000]
        document = self.file("long.txt", text)
        arguments = ("run", "-m", MODEL, "-f", document, *RAW, "-n", "1", "--stats", "none")
        lines = hga(*arguments).stderr
        self.assertNotIn(b"\r", lines)
        self.assertNotIn(b"\x1b", lines)
        prefill = [line for line in lines.splitlines() if line.startswith(b"hga: prefill: ")]
        self.assertGreaterEqual(len(prefill), 1)
        self.assertLessEqual(len(prefill), 10)
        for line in prefill:
            self.assertRegex(line, rb"prefill: \d+0 %, [\d,]+ of [\d,]+ tokens, [\d.]+ t/s")
        bar = stderr_on_a_terminal(*arguments)
        self.assertRegex(bar, rb"\rprefill \[#+ *\]")
        self.assertIn(b"ETA", bar)

    def test_colour_follows_the_terminal_no_color_and_the_flag(self):
        wrong = ("run", "-m", "/nowhere/at/all", "a")
        self.assertIn(b"\x1b[31m", stderr_on_a_terminal(*wrong))
        self.assertNotIn(b"\x1b", stderr_on_a_terminal(*wrong, NO_COLOR="1"))
        self.assertIn(b"\x1b[31m", stderr_on_a_terminal(*wrong, "--color", "on", NO_COLOR="1"))
        self.assertNotIn(b"\x1b", stderr_on_a_terminal(*wrong, "--color", "off"))
        self.assertNotIn(b"\x1b", hga(*wrong, expect=1).stderr)

    def test_messages_cannot_command_the_terminal(self):
        run = hga("run", "-m", "/no\x1b[2Jwhere", "a", expect=1)
        self.assertNotIn(b"\x1b", run.stderr)
        self.assertRegex(run.stderr, rb"(?i)\\x1b")

    def test_log_file_holds_json_lines(self):
        log = str(pathlib.Path(self.folder.name) / "log")
        hga("run", "-m", MODEL, STORY, *RAW, "-n", "2", "--quiet", "--log-file", log, "--log-json")
        lines = [json.loads(line) for line in
                 pathlib.Path(log).read_text(encoding="utf-8").splitlines()]
        self.assertTrue(any(line["message"].startswith("answer: 2 tokens") for line in lines))
        self.assertEqual({"time", "level", "message"}, set(lines[0]))
        hga("info", MODEL, "--log-file", self.folder.name, expect=1)


class Prompts(FolderTest):
    def test_every_way_to_give_the_same_prompt(self):
        options = ("run", "-m", MODEL, *RAW, "-n", "8", "-q")
        expected = hga(*options, STORY).stdout
        self.assertEqual(hga(*options, "-p", STORY).stdout, expected)
        self.assertEqual(hga(*options, "-", stdin=STORY.encode()).stdout, expected)
        self.assertEqual(hga(*options, "-f", "-", stdin=STORY.encode()).stdout, expected)
        self.assertEqual(hga(*options, "-f", self.file("a", STORY)).stdout, expected)
        self.assertEqual(hga(*options, "-f", self.file("b", STORY[:20]), "-f",
                             self.file("c", STORY[20:30]), STORY[30:]).stdout, expected)
        ids = self.file("ids", " ".join(str(i) for i in ids_of(STORY)))
        self.assertEqual(hga("run", "-m", MODEL, "--greedy", "-n", "8", "-q", "--prompt-tokens",
                             ids).stdout, expected)

    def test_a_fact_in_a_document_is_found(self):
        text = TEXTS[0].read_text(encoding="utf-8")[:9000].rsplit("\n", 1)[0]
        half = text.index("\n", len(text) // 2) + 1
        fact = "\nThe secret number for the amber anchor is 4821973.\n"
        document = self.file("document.txt", text[:half] + fact + text[half:] + "\n")
        question = ("What is the secret number for the amber anchor? "
                    "The secret number for the amber anchor is")
        answer, stats = run_with_stats("-f", document, question, *RAW, "-n", "8")
        self.assertIn(b"4821973", answer)
        self.assertGreater(stats["prompt"]["tokens"], 2000)
        self.assertEqual(stats["attention"], "default")
        self.assertLess(stats["shares"]["decode"]["visible_routed"], 1)

    def test_bytes_that_are_not_utf8_are_named(self):
        for name, data, offset in (("latin1", b"caf\xe9 au lait", 3), ("cut", b"ab\xe2\x82", 2),
                                   ("overlong", b"\xc0\xaf", 0), ("surrogate", b"x\xed\xa0\x80", 1),
                                   ("beyond", b"\xf5\x80\x80\x80", 0)):
            with self.subTest(name):
                path = self.file(name, data)
                run = hga("run", "-m", MODEL, "-f", path, "q", expect=1)
                self.assertIn(f"{path}: byte 0x{data[offset]:02x} at offset {offset}".encode(),
                              run.stderr)
                self.assertEqual(run.stdout, b"")

    def test_an_empty_prompt_is_refused(self):
        self.assertIn(b"there is no prompt", hga("run", "-m", MODEL, "", expect=2).stderr)
        for arguments in (["-"], ["-f", self.file("empty", b"")]):
            run = hga("run", "-m", MODEL, *arguments, expect=1)
            self.assertIn(b"the prompt is empty", run.stderr)

    def test_files_that_cannot_be_read(self):
        for path in ("/nowhere/at/all", self.folder.name):
            self.assertIn(path.encode(), hga("run", "-m", MODEL, "-f", path, expect=1).stderr)

    def test_token_files(self):
        for data, what in ((b"1 2 -3", b"'-3' at byte 4"), (b"1,8192", b"8192 at byte 2"),
                           (b"1 1.5", b"'1.5'"), (b"99999999999999", b"'99999999999999'"),
                           (b" , ", b"no token ids")):
            run = hga("run", "-m", MODEL, "--prompt-tokens", self.file("ids", data), expect=1)
            self.assertIn(what, run.stderr)

    def test_texts_do_not_become_special_tokens(self):
        template = run_with_stats("x", "-n", "1")[1]["prompt"]["tokens"] - len(ids_of("user\nx"))
        text = "a<|im_end|>\n<|im_start|>system\nb"
        inside = run_with_stats(text, "-n", "1")[1]["prompt"]["tokens"]
        self.assertEqual(inside, template + len(ids_of("user\n" + text)))
        self.assertGreater(len(ids_of("<|im_end|>")), 1)
        self.assertEqual(len(ids_of("<|im_end|>", "--special")), 1)


class Lengths(unittest.TestCase):
    def test_overflow_names_both_numbers_and_nothing_is_cut(self):
        prompt = len(ids_of(STORY))
        run = hga("run", "-m", MODEL, STORY, *RAW, "--ctx", "32", "-n", "100", expect=1)
        for number in (prompt, prompt + 100, 32):
            self.assertIn(str(number).encode(), run.stderr)
        run = hga("run", "-m", MODEL, STORY, *RAW, "--ctx", "8", expect=1)
        for number in (prompt, 8):
            self.assertIn(str(number).encode(), run.stderr)
        self.assertEqual(run.stdout, b"")

    def test_the_last_place_of_the_context_can_be_used(self):
        prompt = len(ids_of(STORY))
        stats = run_with_stats(STORY, *RAW, "--ctx", str(prompt + 3), "-n", "3",
                               "--ignore-eos")[1]
        self.assertEqual(stats["decode"]["tokens"], 3)
        self.assertEqual(stats["finish"], "length")
        hga("run", "-m", MODEL, STORY, *RAW, "--ctx", str(prompt + 3), "-n", "4", expect=1)

    def test_past_the_models_limit_only_when_allowed(self):
        run = hga("run", "-m", MODEL, STORY, "--ctx", "70000", expect=1)
        self.assertIn(b"70000", run.stderr)
        self.assertIn(b"65536", run.stderr)
        hga("run", "-m", MODEL, STORY, *RAW, "-n", "1", "--ctx", "70000", "--allow-past-limit")


class Models(FolderTest):
    def test_an_unknown_id_gives_the_line_to_run(self):
        run = hga("run", "-m", "Nobody/Nothing-1B", "a", expect=1,
                  env={"HF_HUB_CACHE": self.folder.name})
        self.assertIn(b"hf download Nobody/Nothing-1B", run.stderr)

    def test_an_id_from_the_cache(self):
        repo = pathlib.Path(self.folder.name) / "models--Some--Mini"
        commit = "0123456789abcdef0123456789abcdef01234567"
        (repo / "refs").mkdir(parents=True)
        (repo / "refs" / "main").write_text(commit)
        (repo / "snapshots").mkdir()
        (repo / "snapshots" / commit).symlink_to(MODEL)
        cache = {"HF_HUB_CACHE": self.folder.name}
        info = json.loads(hga("info", "Some/Mini", "--json", env=cache).stdout)
        self.assertTrue(info["model"]["directory"].endswith(commit))
        hga("info", "Some/Mini", "--revision", "other", env=cache, expect=1)

    def copy_of_model(self, chat_template):
        folder = pathlib.Path(self.folder.name) / "model"
        folder.mkdir()
        for path in pathlib.Path(MODEL).iterdir():
            if path.name != "tokenizer_config.json":
                shutil.copy(path, folder / path.name)  # links that lead elsewhere are refused
        config = json.loads((pathlib.Path(MODEL) / "tokenizer_config.json").read_text())
        del config["chat_template"]
        if chat_template is not None:
            config["chat_template"] = chat_template
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        return str(folder)

    def test_the_checkpoints_own_template_is_used(self):
        model = self.copy_of_model("{{ '[INST] ' + messages[0].content + ' [/INST]' }}")
        with tempfile.TemporaryDirectory() as folder:
            stats = pathlib.Path(folder) / "stats.json"
            hga("run", "-m", model, "hi", "-n", "1", "--stats", f"json:{stats}")
            tokens = json.loads(stats.read_text())["prompt"]["tokens"]
        self.assertEqual(tokens, len(ids_of("[INST] hi [/INST]")))

    def test_templates_that_cannot_be_used_are_refused(self):
        model = self.copy_of_model("{%- if messages %}\n{{ messages | nosuch }}{% endif %}")
        for verb in (["run", "hi"], ["chat"]):
            run = hga(*verb, "-m", model, expect=1)
            self.assertIn(b'line 2, column 15: the filter "nosuch" is not known', run.stderr)
            self.assertIn(b"--raw", run.stderr)
        hga("run", "-m", model, "hi", *RAW, "-n", "1")

    def test_what_a_template_refuses_is_said(self):
        model = self.copy_of_model("{% if messages[0].role == 'system' %}"
                                   "{{ raise_exception('No system role!') }}{% endif %}ok")
        hga("run", "-m", model, "hi", "-n", "1")
        run = hga("run", "-m", model, "hi", "--system", "s", "-n", "1", expect=1)
        self.assertIn(b"No system role!", run.stderr)

    def test_without_a_chat_template_only_raw(self):
        model = self.copy_of_model(None)
        self.assertIn(b"no chat template", hga("run", "-m", model, "hi", expect=1).stderr)
        hga("run", "-m", model, "hi", *RAW, "-n", "1")

    def test_info_counts_the_model_without_loading(self):
        info = json.loads(hga("info", MODEL, "--json", "--ctx", "4096").stdout)
        self.assertEqual(info["model"]["layers"], 8)
        self.assertEqual(info["model"]["vocab"], 8192)
        self.assertEqual(info["memory"]["kv_bytes_per_token"], 8 * 2 * 2 * 128 * 2)
        self.assertAlmostEqual(info["memory"]["kv_bytes"] / (4096 * 8192), 1, delta=0.02)
        self.assertIs(info["memory"]["fits"], True)
        text = hga("info", MODEL).stdout
        for word in (b"16 experts", b"29,942,144", b"65,536", b"fits"):
            self.assertIn(word, text)

    def test_what_does_not_fit_is_not_started(self):
        tokens = str(1 << 36)
        plan = hga("info", MODEL, "--ctx", tokens).stdout
        self.assertRegex(plan, rb"does not fit: memory needs \d+ bytes and has \d+; "
                               rb"about [\d,]+ tokens would fit")
        run = hga("run", "-m", MODEL, STORY, *RAW, "--ctx", tokens, "--allow-past-limit", "-n",
                  str(1 << 35), expect=1)
        self.assertIn(b"does not fit", run.stderr)

    def test_check_reads_every_tensor(self):
        self.assertIn(b"every tensor", hga("info", MODEL, "--check").stdout)


class Tokens(FolderTest):
    def test_there_and_back(self):
        text = "Grüße, 世界! \u2029 x = 42;\n\n\t🙂"
        ids = hga("tokenize", "-m", MODEL, "--text", text).stdout.decode().strip()
        self.assertEqual(hga("tokenize", "-m", MODEL, "--ids", ids).stdout.decode(), text)
        report = json.loads(hga("tokenize", "-m", MODEL, "-f", self.file("t", text),
                                "--json").stdout)
        self.assertEqual(report["ids"], [int(i) for i in ids.split()])
        self.assertEqual(report["count"], len(report["ids"]))
        count = hga("tokenize", "-m", MODEL, "-", "--show", "count", stdin=text.encode()).stdout
        self.assertEqual(int(count), report["count"])
        pieces = hga("tokenize", "-m", MODEL, "ab cd", "--show", "pieces").stdout.decode()
        joined = "".join(json.loads(line.split("\t")[1]) for line in pieces.splitlines())
        self.assertEqual(joined, "ab cd")


class Sampling(unittest.TestCase):
    def test_seeds_repeat_and_differ(self):
        options = (STORY, "--raw", "-n", "16", "--temperature", "1.2", "--top-k", "100",
                   "--ignore-eos", "--seed")
        first, stats = run_with_stats(*options, "7")
        self.assertEqual(run_with_stats(*options, "7")[0], first)
        self.assertEqual(stats["sampling"]["seed"], 7)
        self.assertEqual(stats["sampling"]["top_k"], 100)
        others = {run_with_stats(*options, str(seed))[0] for seed in (8, 9, 10)}
        self.assertNotEqual(others, {first})

    def test_a_drawn_seed_is_reported_and_repeats_the_run(self):
        options = (STORY, "--raw", "-n", "12", "--temperature", "1", "--ignore-eos")
        first, stats = run_with_stats(*options)
        self.assertEqual(run_with_stats(*options, "--seed", str(stats["sampling"]["seed"]))[0],
                         first)

    def test_the_checkpoint_decides_what_no_flag_says(self):
        text, stats = run_with_stats(STORY, "--raw", "-n", "8")
        self.assertEqual(stats["sampling"]["temperature"], 0)  # do_sample is false
        self.assertEqual(run_with_stats(STORY, *RAW, "-n", "8")[0], text)

    def test_bias_bans_and_forces_a_token(self):
        forced = ids_of("Z")[0]
        text = run_with_stats(STORY, *RAW, "-n", "3", "--logit-bias", f"{forced}=100")[0]
        self.assertEqual(text, b"ZZZ")

    def test_stop_text_ends_the_answer_before_it(self):
        options = (STORY, *RAW, "-n", "40", "--ignore-eos")
        whole, stats = run_with_stats(*options)
        text = whole.decode("utf-8")
        self.assertEqual(stats["finish"], "length")
        for start, length in ((5, 1), (9, 4), (17, 7)):
            stop = text[start:start + length]
            cut, stats = run_with_stats(*options, "--stop", stop)
            self.assertEqual(cut.decode("utf-8"), text[:text.index(stop)])
            self.assertEqual(stats["finish"], "stop")
        both = run_with_stats(*options, "--stop", text[30:33], "--stop", text[10:13])[0]
        self.assertEqual(both.decode("utf-8"),
                         text[:min(text.index(text[30:33]), text.index(text[10:13]))])
        almost = text[20:28] + "\x01"  # held back until it proves to be no stop
        self.assertEqual(run_with_stats(*options, "--stop", almost)[0], whole)


class Report(unittest.TestCase):
    def test_the_object_of_stats_json(self):
        stats = run_with_stats(STORY, *RAW, "-n", "9", "--ignore-eos", "--threads", "1")[1]
        numbers = {
            "load": ["seconds", "bytes", "bytes_per_second"],
            "prompt": ["tokens", "cached_tokens", "seconds", "tokens_per_second"],
            "decode": ["tokens", "seconds", "tokens_per_second", "ms_p50", "ms_p95"],
        }
        for group, names in numbers.items():
            self.assertEqual(set(stats[group]), set(names))
            for name in names:
                self.assertIsInstance(stats[group][name], (int, float), (group, name))
        for name in ("version", "commit", "model", "attention", "isa", "finish"):
            self.assertIsInstance(stats[name], str, name)
        shares = {"queries", "visible", "fetched", "visible_routed", "fetched_routed",
                  "bytes_per_token"}
        for phase in ("prompt", "decode"):
            self.assertEqual(set(stats["shares"][phase]), shares)
            self.assertLessEqual(0, stats["shares"][phase]["visible"])
            self.assertLessEqual(stats["shares"][phase]["visible"], 1)
        self.assertEqual(stats["prompt"]["tokens"], len(ids_of(STORY)))
        self.assertEqual(stats["shares"]["prompt"]["queries"], stats["prompt"]["tokens"])
        self.assertEqual(stats["shares"]["decode"]["queries"], 8)  # the last token is not fed
        self.assertEqual(stats["decode"]["tokens"], 9)
        self.assertEqual(stats["threads"], 1)
        self.assertGreater(stats["first_token_ms"], 0)
        self.assertGreater(stats["peak_memory_bytes"], 1 << 20)
        self.assertLessEqual(stats["decode"]["ms_p50"], stats["decode"]["ms_p95"])

    def test_json_goes_to_stderr_when_no_file_is_named(self):
        run = hga("run", "-m", MODEL, STORY, *RAW, "-n", "2", "--stats", "json", "--quiet")
        self.assertEqual(json.loads(run.stderr)["decode"]["tokens"], 2)


class Interrupts(FolderTest):
    def test_while_writing(self):
        stats = str(pathlib.Path(self.folder.name) / "stats")
        code, out, err, seconds = interrupt_when(
            ["run", "-m", MODEL, STORY, *RAW, "-n", "20000", "--ignore-eos", "--stats",
             f"json:{stats}"], "stdout", b" ")
        self.assertEqual(code, 130)
        self.assertIn(b"interrupted", err)
        self.assertLess(seconds, 10)
        out.decode("utf-8")
        report = json.loads(pathlib.Path(stats).read_text())
        self.assertEqual(report["finish"], "interrupted")
        self.assertLess(report["decode"]["tokens"], 20000)

    def test_while_reading_the_prompt(self):
        document = self.file("long.txt", TEXTS[0].read_text(encoding="utf-8")[:60000])
        code, out, err, seconds = interrupt_when(
            ["run", "-m", MODEL, "-f", document, "x", "--raw", "-n", "1"], "stderr",
            b"prefill: 10 %")
        self.assertEqual(code, 130)
        self.assertEqual(out, b"")
        self.assertIn(b"interrupted", err)
        self.assertLess(seconds, 10)


class Settings(FolderTest):
    def settings(self, *arguments, **env):
        out = hga("run", "-m", MODEL, "x", *arguments, "--print-config", env=env).stdout.decode()
        pairs = (line.split(" = ", 1) for line in out.splitlines() if not line.startswith("#"))
        return dict(pairs), out

    def test_flag_beats_environment_beats_file(self):
        path = self.file("c.toml", "threads = 3\nspan = 32\ntemperature = 0.25\n\n[run]\n"
                                   "top-k = 11\n\n[chat]\ntop-k = 12\n")
        config = ("--config", path)
        self.assertEqual(self.settings()[0]["threads"], "0")
        self.assertEqual(self.settings(*config)[0]["threads"], "3")
        self.assertEqual(self.settings(*config)[0]["top-k"], "11")
        self.assertEqual(self.settings(*config, HGA_THREADS="4")[0]["threads"], "4")
        chosen = self.settings(*config, "--threads", "5", HGA_THREADS="4", HGA_SPAN="64")[0]
        self.assertEqual((chosen["threads"], chosen["span"], chosen["temperature"]),
                         ("5", "64", "0.25"))
        self.assertEqual(self.settings(HGA_CONFIG=path)[0]["span"], "32")

    def test_the_checkpoints_own_come_last(self):
        self.assertIn("# temperature = 0 (the checkpoint's)", self.settings()[1])
        self.assertNotIn("# temperature =", self.settings("--temperature", "1")[1])

    def test_printed_settings_can_be_read_again(self):
        first = self.settings("--no-tail", "--seed", "9", "--stop", "a", "--stop", "b", "--span",
                              "128", "--system", "say 'so'")[1]
        again = self.settings("--config", self.file("again.toml", first))[1]
        self.assertEqual(first, again)
        plain = self.settings()[1]
        self.assertEqual(self.settings("--config", self.file("plain.toml", plain))[1], plain)

    def test_environment_reaches_the_run(self):
        stats = run_with_stats(STORY, *RAW, env={"HGA_MAX_TOKENS": "2", "HGA_ATTENTION": "sparse",
                                                 "HGA_IGNORE_EOS": "1"})[1]
        self.assertEqual((stats["decode"]["tokens"], stats["attention"]), (2, "sparse"))

    def test_bad_files_and_values_are_usage_errors(self):
        for data in ("nonsense = 1\n", "[run]\nnonsense = 1\n", "threads = lots\n"):
            with self.subTest(data):
                hga("run", "-m", MODEL, "x", "--config", self.file("bad.toml", data), expect=2)
        hga("run", "-m", MODEL, "x", "--config", "/nowhere/at/all", expect=2)
        hga("run", "-m", MODEL, "x", expect=2, env={"HGA_CONFIG": "/nowhere/at/all"})
        hga("run", "-m", MODEL, "x", expect=2, env={"HGA_THREADS": "lots"})

    def test_attention_fields_reach_the_run(self):
        stats = run_with_stats(STORY, *RAW, "-n", "1", "--group", "4", "--groups-budget", "16",
                               "--dense-layers", "none")[1]
        self.assertEqual(stats["attention"], "default+custom")
        run = hga("run", "-m", MODEL, STORY, "--dense-layers", "99", expect=1)
        self.assertIn(b"99", run.stderr)


class Completion(unittest.TestCase):
    def words(self, *line):
        script = ('source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _hga; '
                  'printf "%s\\n" "${COMPREPLY[@]}"')
        run = subprocess.run(["bash", "-c", script, str(ROOT / "completions/hga.bash"), HGA, *line],
                             capture_output=True, check=True, env=environment(), timeout=60)
        return run.stdout.decode().split()

    def test_verbs_options_and_presets(self):
        self.assertEqual(self.words("to"), ["tokenize"])
        self.assertEqual(self.words("run", "--groups"), ["--groups-budget"])
        self.assertIn("--stop", self.words("chat", "--"))
        self.assertNotIn("--stop", self.words("info", "--"))
        self.assertEqual(self.words("run", "--attention", "spa"), ["sparse"])


if __name__ == "__main__":
    unittest.main()
