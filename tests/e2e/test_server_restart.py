# SPDX-License-Identifier: Apache-2.0
"""A conversation about a document goes on after `kill -9`: the same next tokens, K/V taken up.

HGA_RESTART_TOKENS=N: length of the document (3,000). Prints how much sooner a question about a kept
document has its first token."""
import http.client
import json
import os
import signal
import tempfile
import time
import unittest

from cli_support import TEXTS
from server_support import Server

TOKENS = int(os.environ.get("HGA_RESTART_TOKENS", "3000"))
ANSWER = 24


def document():
    """About TOKENS tokens of prose."""
    return TEXTS[0].read_text(encoding="utf-8")[5000:5000 + int(TOKENS * 3.6)]


class Asked:
    """One streamed answer: its text, usage, and seconds to the first of it."""

    def __init__(self, server, messages, stop_after=None):
        body = {"messages": messages, "max_tokens": ANSWER, "temperature": 0, "stream": True,
                "ignore_eos": True, "stream_options": {"include_usage": True}}
        connection = http.client.HTTPConnection(server.host, server.port, timeout=300)
        started = time.monotonic()
        connection.request("POST", "/v1/chat/completions", json.dumps(body).encode())
        response = connection.getresponse()
        self.text, self.usage, self.seconds, pieces = "", None, None, 0
        if response.status != 200:
            raise AssertionError(response.read())
        for line in response:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            self.usage = event["usage"] or self.usage
            piece = event["choices"][0]["delta"].get("content") if event["choices"] else None
            if not piece:
                continue
            self.seconds = self.seconds or time.monotonic() - started
            self.text += piece
            pieces += 1
            if pieces == stop_after:
                break
        connection.close()

    @property
    def cached(self):
        return self.usage["prompt_tokens_details"]["cached_tokens"]


class Restart(unittest.TestCase):
    def start(self, *flags):
        server = Server("--slots", "2", *flags, context=TOKENS + 1024)
        self.addCleanup(server.close)
        return server

    def test_a_conversation_survives_kill_9(self):
        first = [{"role": "user", "content": document() + "\n\nWho is this about?"}]
        plain = self.start()
        whole = Asked(plain, first)
        second = first + [{"role": "assistant", "content": whole.text},
                          {"role": "user", "content": "And where does it happen?"}]
        expected = Asked(plain, second)
        print(f"first token after {whole.seconds:.3f} s for {whole.usage['prompt_tokens']} tokens; "
              f"of a further question {expected.seconds:.3f} s, {expected.cached} kept "
              f"({100 * expected.seconds / whole.seconds:.1f} %)")
        self.assertGreater(expected.cached, 0.9 * expected.usage["prompt_tokens"])

        with tempfile.TemporaryDirectory() as folder:
            flags = ("--kv-dir", folder, "--allow-ram-kv-dir", "--session", "chat",
                     "--checkpoint-every", "8")
            killed = self.start(*flags)
            begun = Asked(killed, first, stop_after=12)
            self.assertTrue(whole.text.startswith(begun.text))
            killed.end(signal.SIGKILL)

            server = self.start(*flags)
            again = Asked(server, first)
            self.assertEqual(again.text, whole.text)
            self.assertGreater(again.cached, 0.9 * again.usage["prompt_tokens"])
            further = Asked(server, second)
            self.assertEqual(further.text, expected.text)
            self.assertGreater(further.cached, 0.9 * further.usage["prompt_tokens"])
            print(f"after the restart {again.cached} of {again.usage['prompt_tokens']} tokens were "
                  f"taken up, first token after {again.seconds:.3f} s")


if __name__ == "__main__":
    unittest.main()
