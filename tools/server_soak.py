#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Many clients on one `hga serve`, some of which leave: nothing may be lost, doubled or crossed.

    tools/server_soak.py [--hga PROGRAM] [--model DIR] [--clients 64] [--seconds 600] [--leave 0.3]
                         [--slots 8] [--json FILE]

Every prompt carries a number of its own and has a stored answer, got by one client alone at
temperature 0. Then the clients ask for random ones of them, streaming or not; a share closes the
connection after a few tokens. Afterwards no request may run or wait. Then
the time from a client's leaving until its slot and its memory are free, in the middle of a long
prompt and of an answer. At last the load is raised to four times what may wait: the time of each
refusal is taken, and the speed of the streams that run, beside that without the refused ones.
Exits 1 if anything is wrong.
"""
import argparse
import atexit
import collections
import http.client
import json
import pathlib
import random
import re
import socket
import statistics
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROMPTS = 48
ANSWER_TOKENS = 40
NOVEL = (ROOT / "examples/text/middlemarch.txt").read_text(encoding="utf-8")


class Server:
    """The program on a free port."""

    def __init__(self, program, model, *options):
        self.process = subprocess.Popen(
            [program, "serve", "-m", model, "--port", "0", *options], stderr=subprocess.PIPE,
            text=True, errors="replace")
        self.port = None
        self.lines = collections.deque(maxlen=200)
        for line in self.process.stderr:
            self.lines.append(line)
            found = re.search(r"listening on http://[^:]+:(\d+)", line)
            if found:
                self.port = int(found.group(1))
                break
        if self.port is None:
            raise SystemExit("the server did not start:\n" + "".join(self.lines))
        threading.Thread(target=lambda: self.lines.extend(self.process.stderr), daemon=True).start()
        self.wait_ready()

    def wait_ready(self):
        for _ in range(600):
            status, _ = self.get("/health")
            if status == 200:
                return
            time.sleep(0.1)
        raise SystemExit("the server is not ready after 60 s")

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def metric(self, name):
        _, text = self.get("/metrics")
        values = re.findall(rf"^{name}(?:{{[^}}]*}})? ([-+.e\d]+)$", text, re.M)
        return sum(map(float, values))

    def memory(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) * 1024

    def stop(self):
        self.process.terminate()
        return self.process.wait(timeout=60)


def body_of(number, stream):
    options = {"stream_options": {"include_usage": True}} if stream else {}
    return json.dumps(options | {
        "model": "hga-mini", "stream": stream, "temperature": 0, "max_tokens": ANSWER_TOKENS,
        "prompt": f"Letter {number * 7919 + 13}. {NOVEL[number * 4000:number * 4000 + 300]}"})


class Wrong(Exception):
    pass


def read_stream(response, leave_after):
    """The answer's text, or None after having left; checks the order of the events."""
    text, events, finish, usage = "", 0, None, None
    while True:
        line = response.readline()
        if not line:
            raise Wrong("the stream ended without [DONE]")
        line = line.decode().rstrip("\n")
        if not line or line.startswith(":"):
            continue
        if not line.startswith("data: "):
            raise Wrong(f"no event: {line!r}")
        if line == "data: [DONE]":
            break
        event = json.loads(line[6:])
        if "error" in event:
            raise Wrong(f"an error in a stream: {event['error']}")
        if event["choices"]:
            choice = event["choices"][0]
            if finish is not None:
                raise Wrong("text after finish_reason")
            text += choice["text"]
            finish = choice["finish_reason"]
            events += 1
        else:
            usage = event["usage"]
        if leave_after is not None and events > leave_after:
            return None
    if finish is None or usage is None:
        raise Wrong(f"finish_reason {finish}, usage {usage}")
    if usage["completion_tokens"] > ANSWER_TOKENS:
        raise Wrong(f"{usage['completion_tokens']} tokens")
    return text


def ask(port, number, stream, leave_after=None, timeout=300):
    """(status, text or None, seconds to the status line)."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    started = time.monotonic()
    try:
        connection.request("POST", "/v1/completions", body_of(number, stream),
                           {"Content-Type": "application/json"})
        response = connection.getresponse()
        seconds = time.monotonic() - started
        if response.status != 200:
            return response.status, response.read().decode(), seconds
        if stream:
            return 200, read_stream(response, leave_after), seconds
        return 200, json.loads(response.read())["choices"][0]["text"], seconds
    finally:
        connection.close()


class Soak:
    def __init__(self, server, arguments):
        self.server, self.arguments = server, arguments
        self.counts = collections.Counter()
        self.wrong = []
        self.lock = threading.Lock()
        self.expected = []
        for i in range(PROMPTS):
            status, text, _ = ask(server.port, i, i % 2 == 0)
            if status != 200:
                raise SystemExit(f"alone, prompt {i} got status {status}: {text}")
            self.expected.append(text)
        if len(set(self.expected)) < PROMPTS / 2:
            raise SystemExit("the answers do not tell the prompts apart")

    def client(self, seed, end):
        draw = random.Random(seed)
        while time.monotonic() < end:
            number, stream = draw.randrange(PROMPTS), draw.random() < 0.8
            leaves = stream and draw.random() < self.arguments.leave / 0.8
            try:
                status, text, _ = ask(self.server.port, number, stream,
                                      draw.randrange(12) if leaves else None)
            except (Wrong, OSError, http.client.HTTPException, ValueError) as error:
                self.note("failed", f"prompt {number}: {error!r}")
                continue
            if status == 429:
                self.note("refused")
                time.sleep(0.2 + draw.random())
            elif status != 200:
                self.note("failed", f"prompt {number}: status {status}: {text[:200]}")
            elif text is None:
                self.note("left")
            elif text != self.expected[number]:
                self.note("different", f"prompt {number}: {text!r} instead of "
                                       f"{self.expected[number]!r}")
            else:
                self.note("right")

    def note(self, what, why=None):
        with self.lock:
            self.counts[what] += 1
            if why is not None:
                self.wrong.append(why)

    def run(self):
        end = time.monotonic() + self.arguments.seconds
        threads = [threading.Thread(target=self.client, args=(i, end))
                   for i in range(self.arguments.clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def seconds_until_idle(self):
        started = time.monotonic()
        while time.monotonic() - started < 30:
            if self.server.metric("hga_num_requests_running") == 0 and \
                    self.server.metric("hga_num_requests_waiting") == 0:
                return time.monotonic() - started
            time.sleep(0.02)
        self.wrong.append("requests run or wait 30 s after the last client left")
        return None


def released(server, rounds):
    """Worst seconds until slot and planned memory are free, by what the client left."""
    long_prompt = NOVEL[:6000]
    worst = {}
    for what, body, after in (
            ("prompt", {"prompt": long_prompt, "max_tokens": 8, "cache_prompt": False}, 0.1),
            ("answer", {"prompt": "Once upon a time", "max_tokens": 1500, "ignore_eos": True}, 0.3)):
        times = []
        for _ in range(rounds):
            before = server.metric("hga_num_requests_running")
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=300)
            connection.request("POST", "/v1/completions", json.dumps({**body, "stream": True}),
                               {"Content-Type": "application/json"})
            while server.metric("hga_num_requests_running") == before:
                time.sleep(0.001)
            time.sleep(after)
            connection.sock.shutdown(socket.SHUT_RDWR)
            connection.close()
            left = time.monotonic()
            while server.metric("hga_num_requests_running") != before:
                time.sleep(0.001)
            times.append(time.monotonic() - left)
        worst[what] = max(times)
    return worst


class Streams:
    """As many endless streams as there are slots, and the tokens they bring."""

    def __init__(self, server, slots):
        self.tokens = 0
        self.gaps = []
        self.lock = threading.Lock()
        self.done = False
        self.threads = [threading.Thread(target=self.read, args=(server, i)) for i in range(slots)]
        for thread in self.threads:
            thread.start()

    def read(self, server, i):
        while not self.done:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=300)
            connection.request("POST", "/v1/completions", json.dumps(
                {"prompt": f"{i} is the number of", "max_tokens": 1900, "ignore_eos": True,
                 "temperature": 0, "stream": True}), {"Content-Type": "application/json"})
            last = None
            for line in connection.getresponse():
                if self.done:
                    break
                if not line.startswith(b"data: {"):
                    continue
                now = time.monotonic()
                with self.lock:
                    self.tokens += 1
                    if last is not None:
                        self.gaps.append(now - last)
                last = now
            connection.close()

    def rate(self, seconds):
        """Tokens a second of all streams, and the longest pause of one."""
        with self.lock:
            tokens, gaps = self.tokens, len(self.gaps)
        time.sleep(seconds)
        with self.lock:
            return (self.tokens - tokens) / seconds, max(self.gaps[gaps:], default=0)

    def end(self):
        self.done = True
        for thread in self.threads:
            thread.join()


def streams_under_overload(server, slots, waiting, seconds):
    """All slots stream and the queue is full; then four times as many clients ask again and
    again."""
    streams = Streams(server, slots)
    while server.metric("hga_num_requests_running") < slots:
        time.sleep(0.01)
    stop = threading.Event()
    refused = []

    def ask_again(wait):
        while not stop.is_set():
            try:
                status, _, taken = ask(server.port, 0, False, timeout=0.5 if wait else 300)
            except OSError:
                continue  # it waited in the queue
            if status == 429:
                refused.append(taken)
                stop.wait(1)  # what Retry-After says

    crowd = [threading.Thread(target=ask_again, args=(True,), daemon=True)
             for _ in range(4 * (slots + waiting))]
    alone = streams.rate(seconds)
    for thread in crowd:
        thread.start()
    time.sleep(1)
    crowded = streams.rate(seconds)
    stop.set()
    for thread in crowd:
        thread.join()
    after = streams.rate(seconds)
    streams.end()
    return {"before": alone, "under": crowded, "after": after, "refusals": len(refused),
            "refusal_seconds_worst": max(refused, default=None)}


def overload(server, expected, clients):
    """Seconds that refusals took, and how many answers came, all right."""
    refused, right, wrong = [], [], []

    def client(i):
        status, text, seconds = ask(server.port, i % PROMPTS, False)
        if status == 429:
            refused.append(seconds)
        elif status == 200 and text == expected[i % PROMPTS]:
            right.append(seconds)
        else:
            wrong.append((status, text))

    threads = [threading.Thread(target=client, args=(i,)) for i in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return refused, right, wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hga", default=str(ROOT / "build/release/apps/cli/hga"))
    parser.add_argument("--model", default=str(ROOT / "models/hga-mini"))
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--leave", type=float, default=0.3)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--waiting", type=int, default=64)
    parser.add_argument("--rate-seconds", type=float, default=10)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    server = Server(arguments.hga, arguments.model, "--slots", str(arguments.slots),
                    "--max-waiting", str(arguments.waiting), "--ctx", "2048")
    atexit.register(server.process.kill)
    soak = Soak(server, arguments)
    before = server.memory()
    soak.run()
    report = dict(soak.counts, idle_after_seconds=soak.seconds_until_idle(),
                  memory_before=before, memory_after=server.memory())
    report["released_seconds"] = released(server, 5)
    report["streams"] = streams_under_overload(server, arguments.slots, arguments.waiting,
                                               arguments.rate_seconds)
    room = arguments.slots + arguments.waiting
    refused, right, wrong = overload(server, soak.expected, 4 * room)
    report["overload"] = {
        "asked": 4 * room, "refused": len(refused), "right": len(right), "wrong": len(wrong),
        "refusal_seconds_median": statistics.median(refused) if refused else None,
        "refusal_seconds_worst": max(refused, default=None)}
    soak.wrong += [f"overload: {status}: {text}" for status, text in wrong]
    report["exit_status"] = server.stop()
    report["wrong"] = soak.wrong[:20]
    print(json.dumps(report, indent=1))
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(report, indent=1))
    sys.exit(1 if soak.wrong or report["exit_status"] != 0 else 0)


if __name__ == "__main__":
    main()
