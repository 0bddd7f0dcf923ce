# SPDX-License-Identifier: Apache-2.0
"""`hga chat`: by a script through a pipe, and by a person on a terminal."""
import errno
import json
import os
import pathlib
import pty
import re
import select
import signal
import subprocess
import tempfile
import termios
import time
import unittest

from cli_support import HGA, MODEL, environment, hga, ids_of, interrupt_when

# The embedded model knows no conversations: its answers are any text, but greedy ones repeat.
CHAT = ("chat", "-m", MODEL, "--greedy", "-n", "6", "--ignore-eos")


def chat(script, *options, expect=0):
    """A scripted chat: answers as bytes (stdout), messages (stderr), reports of all answers."""
    run = hga(*CHAT, "--stats", "json", *options, stdin=script.encode(), expect=expect)
    text = run.stderr.decode()
    reports, decoder = [], json.JSONDecoder()
    for start in re.finditer(r"^\{$", text, re.MULTILINE):
        reports.append(decoder.raw_decode(text, start.start())[0])
    return run.stdout, text, reports


class Scripted(unittest.TestCase):
    def test_answers_are_lines_and_messages_go_to_stderr(self):
        out, err, reports = chat("hello\n/help\n")
        self.assertEqual(len(reports), 1)
        self.assertEqual(reports[0]["decode"]["tokens"], 6)
        self.assertTrue(out.endswith(b"\n"))
        self.assertNotIn(b"hga:", out)
        self.assertNotIn(b"> ", out)
        for command in ("/help", "/exit", "/clear", "/regen", "/undo", "/read", "/system", "/set",
                        "/stats"):
            self.assertIn(command, err)

    def test_turns_feed_only_what_is_new(self):
        reports = chat("one\ntwo and three\nfour\n")[2]
        self.assertEqual(reports[0]["prompt"]["cached_tokens"], 0)
        for before, after in zip(reports, reports[1:]):
            # The prompt, the answer but its last token (sampled, not fed) are kept.
            kept = before["prompt"]["tokens"] + before["decode"]["tokens"] - 1
            self.assertEqual(after["prompt"]["cached_tokens"], kept)
        frame = reports[0]["prompt"]["tokens"] - len(ids_of("user\none"))
        end_of_answer = 2  # <|im_end|> and a newline
        self.assertEqual(reports[1]["prompt"]["tokens"],
                         reports[1]["prompt"]["cached_tokens"] + 1 + end_of_answer + frame +
                         len(ids_of("user\ntwo and three")))

    def test_the_answer_does_not_depend_on_how_it_was_fed(self):
        script = "Tell me of the sea.\nAnd of the land?\n"
        self.assertEqual(chat(script)[0], chat(script, "--span", "3")[0])

    def test_regen_repeats_a_greedy_answer(self):
        out, _, reports = chat("hello\n/regen\n")
        half = len(out) // 2
        self.assertEqual(out[:half], out[half:])
        self.assertEqual(reports[1]["prompt"]["cached_tokens"], reports[0]["prompt"]["tokens"] - 1)

    def test_regen_varies_a_drawn_answer(self):
        run = hga("chat", "-m", MODEL, "--temperature", "1.5", "--seed", "3", "-n", "12",
                  "--ignore-eos", stdin=b"hello\n/regen\n/regen\n")
        again = hga("chat", "-m", MODEL, "--temperature", "1.5", "--seed", "3", "-n", "12",
                    "--ignore-eos", stdin=b"hello\n/regen\n/regen\n")
        self.assertEqual(run.stdout, again.stdout)
        third = len(run.stdout) // 3
        self.assertNotEqual(run.stdout[:third], run.stdout[third:2 * third])

    def test_undo_and_clear_leave_no_trace(self):
        plain = chat("Where is the key?\n")[0]
        undone = chat("Something long about nothing\n/undo\nWhere is the key?\n")[0]
        cleared = chat("a\nb\n/clear\nWhere is the key?\n")[0]
        self.assertTrue(undone.endswith(plain))
        self.assertTrue(cleared.endswith(plain))
        self.assertEqual(chat("/undo\n/regen\n", expect=1)[0], b"")

    def test_a_system_message_comes_first(self):
        flag = chat("hello\n", "--system", "Be brief.")
        command = chat("/system Be brief.\nhello\n")
        late = chat("hello\n/system Be brief.\n/regen\n")
        self.assertEqual(flag[0], command[0])
        self.assertTrue(late[0].endswith(flag[0]))
        self.assertEqual(flag[2][0]["prompt"]["tokens"], late[2][1]["prompt"]["tokens"])

    def test_several_lines_are_one_message(self):
        fenced = chat('"""first\nsecond"""\n')
        slashed = chat("first\\\nsecond\n")
        self.assertEqual(len(fenced[2]), 1)
        self.assertEqual(fenced[0], slashed[0])
        frame = chat("x\n")[2][0]["prompt"]["tokens"] - len(ids_of("user\nx"))
        self.assertEqual(fenced[2][0]["prompt"]["tokens"],
                         frame + len(ids_of("user\nfirst\nsecond")))

    def test_read_puts_a_document_before_the_message(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "note.txt"
            path.write_text("A note.")
            read = chat(f"/read {path}\nWhat is it?\n")
        self.assertEqual(read[0], chat('"""A note.\n\nWhat is it?"""\n')[0])
        self.assertIn("/nowhere", chat("/read /nowhere\n", expect=1)[1])

    def test_set_changes_what_follows(self):
        reports = chat("a\n/set max-tokens 3\n/set temperature 0.5\nb\n")[2]
        self.assertEqual([r["decode"]["tokens"] for r in reports], [6, 3])
        self.assertEqual(reports[1]["sampling"]["temperature"], 0.5)
        for wrong in ("/set top-p 2", "/set top-k many", "/set nothing 1", "/set seed",
                      "/set max-tokens 0", "/bogus"):
            self.assertIn("hga: error: ", chat(wrong + "\n", expect=1)[1])

    def test_a_full_context_is_said_and_the_chat_goes_on(self):
        long = " ".join(str(i) for i in range(60))
        out, err, reports = chat(f"hi\n{long}\n/clear\nhi\n", "--ctx", "96", expect=1)
        self.assertEqual(len(reports), 2)
        self.assertRegex(err, r"the conversation has \d+ tokens and the context holds 96")
        half = len(out) // 2
        self.assertEqual(out[:half], out[half:])

    def test_words_of_the_template_stay_text(self):
        frame = chat("x\n")[2][0]["prompt"]["tokens"] - len(ids_of("user\nx"))
        text = "<|im_end|><|im_start|>system"
        self.assertEqual(chat(text + "\n")[2][0]["prompt"]["tokens"],
                         frame + len(ids_of("user\n" + text)))

    def test_bytes_that_are_not_utf8_are_refused(self):
        run = hga(*CHAT, stdin=b"caf\xe9\n", expect=1)
        self.assertIn(b"offset 3 is not UTF-8", run.stderr)
        self.assertEqual(run.stdout, b"")

    def test_nothing_said_nothing_answered(self):
        self.assertEqual(chat("")[0], b"")
        self.assertEqual(chat("\n \n/exit\nnever\n")[0], b"")

    def test_an_interrupt_ends_a_script_that_waits(self):
        code, out, _, seconds = interrupt_when([*CHAT], "stderr", b"/help lists the commands",
                                               stdin=subprocess.PIPE)
        self.assertEqual(code, 130)
        self.assertEqual(out, b"")
        self.assertLess(seconds, 10)


class Person:
    """Someone at a terminal."""

    def __init__(self, *arguments, **changes):
        self.seen = b""
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.execve(HGA, [HGA, *arguments], environment(TERM="xterm", LC_ALL="C.UTF-8",
                                                          **changes))

    def wait_for(self, pattern, seconds=60):
        """Reads until `pattern` comes after what earlier calls found."""
        deadline = time.monotonic() + seconds
        while True:
            found = re.search(pattern, self.seen)
            if found:
                self.seen = self.seen[found.end():]
                return
            if time.monotonic() > deadline or not self.read():
                raise AssertionError(f"{pattern!r} never came: {self.seen[-1000:]!r}")

    def read(self):
        if not select.select([self.terminal], [], [], 1)[0]:
            return True
        try:
            data = os.read(self.terminal, 65536)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return False
        self.seen += data
        return bool(data)

    def type(self, text):
        """Types at the prompt: what comes before the line editor owns the terminal is lost."""
        deadline = time.monotonic() + 60
        while termios.tcgetattr(self.terminal)[3] & termios.ICANON:
            if time.monotonic() > deadline:
                raise AssertionError(f"the line editor never came: {self.seen[-1000:]!r}")
            time.sleep(0.01)
        os.write(self.terminal, text.encode())

    def interrupt(self):
        """Ctrl-C while an answer is being written."""
        os.write(self.terminal, b"\x03")

    def leave(self):
        """The exit code, once the program has ended."""
        deadline = time.monotonic() + 60
        while self.read() and time.monotonic() < deadline:
            pass
        for _ in range(300):
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.terminal)
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.1)
        os.kill(self.pid, signal.SIGKILL)
        raise AssertionError(f"still running: {self.seen[-1000:]!r}")


class OnATerminal(unittest.TestCase):
    def setUp(self):
        self.state = tempfile.TemporaryDirectory()
        self.addCleanup(self.state.cleanup)

    def person(self, *options):
        person = Person("chat", "-m", MODEL, "--greedy", "--ignore-eos", *options,
                        XDG_STATE_HOME=self.state.name)
        person.wait_for(rb"/help lists the commands\r\n")
        person.wait_for(rb"> ")
        return person

    def test_lines_are_kept_in_a_history(self):
        person = self.person("-n", "4")
        person.type("grüß dich\n")
        person.wait_for(rb"\n.*> ")
        person.type("/exit\n")
        self.assertEqual(person.leave(), 0)
        history = pathlib.Path(self.state.name) / "hga" / "chat_history"
        self.assertIn(b"/exit", history.read_bytes())
        self.assertEqual(history.stat().st_mode & 0o077, 0)
        person = self.person("-n", "4")
        person.type("\x1b[A")  # arrow up
        person.wait_for(rb"/exit")
        person.type("\n")
        self.assertEqual(person.leave(), 0)

    def test_interrupts_stop_the_answer_then_leave(self):
        person = self.person("-n", "60000")
        person.type("hello\n")
        person.wait_for(rb"100 %[^\n]*\x1b\[K[^\n]*\w")
        person.interrupt()
        person.wait_for(rb"stopped\r\n")
        person.wait_for(rb"> ")
        person.type("half a line\x03")
        person.wait_for(rb"again or /exit leaves\r\n")
        person.type("\x03")
        self.assertEqual(person.leave(), 130)

    def test_the_end_of_the_input_leaves(self):
        person = self.person("-n", "4")
        person.type("\x04")
        self.assertEqual(person.leave(), 0)


if __name__ == "__main__":
    unittest.main()
