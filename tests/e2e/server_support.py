# SPDX-License-Identifier: Apache-2.0
"""Starts `hga serve` for a test case and speaks HTTP with it, decently or not."""
import http.client
import json
import os
import pathlib
import re
import select
import signal
import socket
import subprocess
import tempfile
import time
import unittest

from cli_support import HGA, MODEL, environment


CHAT = "/v1/chat/completions"
USER = [{"role": "user", "content": "Tell me a story about the sea."}]
SCHEMA = {"type": "object", "properties": {"kind": {"enum": ["cat", "dog"]}, "age": {"enum": [1, 2]}},
          "required": ["kind", "age"], "additionalProperties": False}
TOOLS = [{"type": "function", "function": {
    "name": "look_up", "description": "Looks a word up",
    "parameters": {"type": "object", "properties": {"word": {"enum": ["sea", "sky"]}},
                   "required": ["word"], "additionalProperties": False}}}]


class Server:
    """One process with the small model; leaves nothing behind."""

    def __init__(self, *flags, context=4096, model=MODEL, **env):
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [HGA, "serve", "-m", model, "--port", "0", "--ctx", str(context), "--threads", "1",
             *flags], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.log,
            env=environment(**env))
        deadline = time.monotonic() + 120
        while True:
            found = re.search(rb"listening on http://(\S+):(\d+)", self.text())
            if found:
                break
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"hga serve did not start: {self.text().decode()}")
            time.sleep(0.02)
        self.host, self.port = found.group(1).decode(), int(found.group(2))

    def text(self):
        """What it said on stderr so far."""
        self.log.flush()
        return os.pread(self.log.fileno(), 1 << 20, 0)

    @property
    def url(self):
        return f"http://{self.host}:{self.port}"

    def request(self, method, path, body=None, headers=None, timeout=60):
        """Status, headers, and the body (as JSON where it is)."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        try:
            data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
            connection.request(method, path, data, headers or {})
            answer = connection.getresponse()
            content = answer.read()
            if answer.getheader("Content-Type", "").startswith("application/json"):
                content = json.loads(content)
            return answer.status, answer.headers, content
        finally:
            connection.close()

    def post(self, path, body, expect=200, **options):
        status, _, content = self.request("POST", path, body, **options)
        if status != expect:
            raise AssertionError(f"{path}: {status}, wanted {expect}: {content}")
        return content

    def events(self, path, body, headers=None):
        """The data of every event of a stream."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=300)
        connection.request("POST", path, json.dumps(body).encode(), headers or {})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        if answer.status != 200:
            raise AssertionError(f"{path}: {answer.status}: {text}")
        return [line[6:] for line in text.split("\n") if line.startswith("data: ")]

    def raw(self, data, timeout=20):
        """Sends bytes; what comes back until the server closes or is silent for half a second."""
        with socket.create_connection((self.host, self.port), timeout=timeout) as connection:
            try:
                for piece in data if isinstance(data, list) else [data]:
                    connection.sendall(piece)
            except (BrokenPipeError, ConnectionResetError):
                pass
            return read_until_quiet(connection, timeout)

    def metric(self, name):
        _, _, text = self.request("GET", "/metrics")
        found = re.search(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text.decode(), re.M)
        return float(found.group(1))

    def wait_for(self, condition, seconds=10):
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError("it did not come true in time")
            time.sleep(0.01)

    def end(self, signal_number=signal.SIGTERM, timeout=60):
        """The exit code and the seconds it took."""
        started = time.monotonic()
        self.process.send_signal(signal_number)
        code = self.process.wait(timeout=timeout)
        return code, time.monotonic() - started

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log.close()


class ServerTest(unittest.TestCase):
    flags = ()

    @classmethod
    def setUpClass(cls):
        cls.server = Server(*cls.flags)
        cls.addClassCleanup(cls.server.close)


def read_until_quiet(connection, timeout):
    """All bytes of an answer: to its end by Content-Length, or to the end of the connection."""
    seen = b""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline and not whole(seen):
        if not select.select([connection], [], [], 0.2)[0]:
            continue
        try:
            data = connection.recv(65536)
        except ConnectionResetError:
            break
        if not data:
            break
        seen += data
    return seen


def whole(data):
    head, mark, body = data.partition(b"\r\n\r\n")
    if not mark:
        return False
    if head.startswith(b"HTTP/1.1 100"):
        return whole(body)
    length = re.search(rb"content-length: (\d+)", head, re.I)
    return length is not None and len(body) >= int(length.group(1))


def status_of(data):
    """Of the first answer in `data`; 0 when the server just closed."""
    found = re.match(rb"HTTP/1\.1 (\d{3}) ", data)
    return int(found.group(1)) if found else 0


ROOT = pathlib.Path(__file__).resolve().parents[2]
