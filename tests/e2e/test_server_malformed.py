# SPDX-License-Identifier: Apache-2.0
"""What a server must refuse: broken HTTP, broken JSON, fields out of range. It answers 4xx (or
closes), and goes on as before."""
import gzip
import json
import socket
import unittest

from server_support import Server, status_of

HOST = b"Host: localhost\r\n"
CHAT = "/v1/chat/completions"
USER = [{"role": "user", "content": "hi"}]


def post(body, *lines, path=b"/v1/completions", length=True):
    """A request with a body and further header lines."""
    head = [b"POST " + path + b" HTTP/1.1", b"Host: localhost", *lines]
    if length:
        head.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def chunked(body, *lines):
    return post(body, b"Transfer-Encoding: chunked", *lines, length=False)


SMALL = b'{"prompt": "a", "max_tokens": 1}'

# H1-H6, H9: name -> (bytes, statuses; 0 is a clean close).
HTTP = {
    "no host": (b"GET /health HTTP/1.1\r\n\r\n", {400}),
    "two hosts": (b"GET /health HTTP/1.1\r\n" + HOST + HOST + b"\r\n", {400}),
    "empty host": (b"GET /health HTTP/1.1\r\nHost:\r\n\r\n", {400}),
    "host with a path": (b"GET /health HTTP/1.1\r\nHost: local/host\r\n\r\n", {400}),
    "host with a user": (b"GET /health HTTP/1.1\r\nHost: a@localhost\r\n\r\n", {400}),
    "space before the colon": (b"GET /health HTTP/1.1\r\nHost : localhost\r\n\r\n", {400}),
    "space in a name": (b"GET /health HTTP/1.1\r\n" + HOST + b"X Y: 1\r\n\r\n", {400}),
    "no colon": (b"GET /health HTTP/1.1\r\n" + HOST + b"nonsense\r\n\r\n", {400}),
    "empty name": (b"GET /health HTTP/1.1\r\n" + HOST + b": 1\r\n\r\n", {400}),
    "folded line": (b"GET /health HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n", {400}),
    "folded by a tab": (b"GET /health HTTP/1.1\r\n" + HOST + b"X: a\r\n\tb\r\n\r\n", {400}),
    "first line folded": (b"GET /health HTTP/1.1\r\n X: a\r\n" + HOST + b"\r\n", {400}),
    "bare CR in a value": (b"GET /health HTTP/1.1\r\n" + HOST + b"X: a\rb\r\n\r\n", {400}),
    "bare LF as line end": (b"GET /health HTTP/1.1\nHost: localhost\n\n", {400}),
    "bare LF in headers": (b"GET /health HTTP/1.1\r\nHost: localhost\nX: 1\r\n\r\n", {400}),
    "NUL in a value": (b"GET /health HTTP/1.1\r\n" + HOST + b"X: a\0b\r\n\r\n", {400}),
    "NUL in a name": (b"GET /health HTTP/1.1\r\n" + HOST + b"X\0: a\r\n\r\n", {400}),
    "NUL in the target": (b"GET /hea\0lth HTTP/1.1\r\n" + HOST + b"\r\n", {400}),
    "control character": (b"GET /health HTTP/1.1\r\n" + HOST + b"X: a\x01b\r\n\r\n", {400}),
    "delete character": (b"GET /health HTTP/1.1\r\n" + HOST + b"X: a\x7fb\r\n\r\n", {400}),
    "length and coding": (post(SMALL, b"Transfer-Encoding: chunked"), {400}),
    "coding and length": (chunked(b"0\r\n\r\n", b"Content-Length: 5"), {400}),
    "two lengths": (post(SMALL, b"Content-Length: 5"), {400}),
    "two equal lengths": (post(b"{}", b"Content-Length: 2"), {400}),
    "list of lengths": (post(b"", b"Content-Length: 5, 5", length=False), {400}),
    "plus length": (post(b"hello", b"Content-Length: +5", length=False), {400}),
    "negative length": (post(b"", b"Content-Length: -1", length=False), {400}),
    "hex length": (post(b"hello", b"Content-Length: 0x5", length=False), {400}),
    "length with blanks": (post(b"hello", b"Content-Length: 5 5", length=False), {400}),
    "empty length": (post(b"", b"Content-Length:", length=False), {400}),
    "length of 2^64": (post(b"", b"Content-Length: 18446744073709551616", length=False), {413}),
    "length of 2^63": (post(b"", b"Content-Length: 9223372036854775808", length=False), {413}),
    "length of 1 GB": (post(b"", b"Content-Length: 1000000000", length=False), {413}),
    "unknown coding": (post(b"", b"Transfer-Encoding: gzip", length=False), {400}),
    "coding list": (post(b"", b"Transfer-Encoding: gzip, chunked", length=False), {400}),
    "coding twice": (chunked(b"0\r\n\r\n", b"Transfer-Encoding: chunked"), {400}),
    "coding misspelled": (post(b"", b"Transfer-Encoding: xchunked", length=False), {400}),
    "coding quoted": (post(b"", b'Transfer-Encoding: "chunked"', length=False), {400}),
    "coding in HTTP/1.0": (b"POST /tokenize HTTP/1.0\r\n" + HOST +
                           b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400}),
    "negative chunk": (chunked(b"-2\r\nab\r\n0\r\n\r\n"), {400}),
    "chunk of 17 digits": (chunked(b"10000000000000000\r\n"), {400, 413}),
    "chunk of 16 digits": (chunked(b"FFFFFFFFFFFFFFFF\r\n"), {400, 413}),
    "chunk without digits": (chunked(b"\r\nab\r\n"), {400}),
    "chunk with 0x": (chunked(b"0x2\r\nab\r\n0\r\n\r\n"), {400}),
    "chunk that is longer": (chunked(b"2\r\nabc\r\n0\r\n\r\n"), {400}),
    "chunk with LF": (chunked(b"2\nab\n0\n\n"), {400, 0}),
    "endless chunk extension": (chunked(b"2;" + b"x" * 300000), {400}),
    "chunks beyond the limit": (chunked(b"2000001\r\n" + b"a" * 100), {413}),
    "gzip": (post(gzip.compress(b" " * 100000), b"Content-Encoding: gzip"), {415}),
    "zstd": (post(b"(\xb5/\xfd", b"Content-Encoding: zstd"), {415}),
    "deflate, gzip": (post(b"x", b"Content-Encoding: deflate, gzip"), {415}),
    "line of 64 KB": (b"GET /" + b"a" * 65536 + b" HTTP/1.1\r\n" + HOST + b"\r\n", {414}),
    "header of 1 MB": (b"GET /health HTTP/1.1\r\n" + HOST + b"X: " + b"a" * (1 << 20) + b"\r\n\r\n",
                       {431}),
    "10^5 headers": (b"GET /health HTTP/1.1\r\n" + HOST + b"X: 1\r\n" * 100000 + b"\r\n", {431}),
    "101 headers": (b"GET /health HTTP/1.1\r\n" + HOST + b"X: 1\r\n" * 101 + b"\r\n", {431}),
    "data without a newline": (b"a" * 100000, {414}),
    "key of 10 MB": (b"GET /health HTTP/1.1\r\n" + HOST + b"X-Api-Key: " + b"k" * 10_000_000, {431}),
    "only blanks": (b"   \r\n\r\n", {400}),
    "no version": (b"GET /health\r\n" + HOST + b"\r\n", {400}),
    "HTTP/0.9": (b"GET /health HTTP/0.9\r\n\r\n", {400}),
    "HTTP/2.0": (b"GET /health HTTP/2.0\r\n" + HOST + b"\r\n", {400}),
    "HTTP/1.1 in small": (b"GET /health http/1.1\r\n" + HOST + b"\r\n", {400}),
    "preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400}),
    "two blanks": (b"GET  /health HTTP/1.1\r\n" + HOST + b"\r\n", {400}),
    "blank in the target": (b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n", {400}),
    "tab as a blank": (b"GET\t/health\tHTTP/1.1\r\n" + HOST + b"\r\n", {400}),
    "target is no path": (b"GET health HTTP/1.1\r\n" + HOST + b"\r\n", {400}),
    "fragment": (b"GET /health#x HTTP/1.1\r\n" + HOST + b"\r\n", {400}),
    "bytes above ASCII": (b"GET /h\xc3\xa9 HTTP/1.1\r\n" + HOST + b"\r\n", {400}),
    "method with a bracket": (b"G{T /health HTTP/1.1\r\n" + HOST + b"\r\n", {400}),
    "unknown method": (b"BREW /health HTTP/1.1\r\n" + HOST + b"\r\n", {405}),
    "DELETE": (b"DELETE /v1/models HTTP/1.1\r\n" + HOST + b"\r\n", {405}),
    "TRACE": (b"TRACE /health HTTP/1.1\r\n" + HOST + b"\r\n", {405}),
    "CONNECT": (b"CONNECT localhost:80 HTTP/1.1\r\n" + HOST + b"\r\n", {400}),
    "two slashes": (b"GET //health HTTP/1.1\r\n" + HOST + b"\r\n", {404}),
    "dots": (b"GET /v1/../health HTTP/1.1\r\n" + HOST + b"\r\n", {404}),
    "coded dots": (b"GET /%2e%2e/health HTTP/1.1\r\n" + HOST + b"\r\n", {404}),
    "bad percent": (b"GET /v1/models/%zz HTTP/1.1\r\n" + HOST + b"\r\n", {404}),
    "coded CR LF": (b"GET /v1/models/%0D%0AX:1 HTTP/1.1\r\n" + HOST + b"\r\n", {404}),
    "coded non-UTF-8": (b"GET /v1/models/%ff%fe HTTP/1.1\r\n" + HOST + b"\r\n", {404}),
    "absolute form of another host": (b"GET http://evil.example/health HTTP/1.1\r\n" + HOST + b"\r\n",
                                      {403}),
    "rebinding": (b"GET /v1/models HTTP/1.1\r\nHost: evil.example\r\n\r\n", {403}),
    "rebinding with a port": (b"GET /v1/models HTTP/1.1\r\nHost: evil.example:80\r\n\r\n", {403}),
    "name that looks local": (b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1.evil.example\r\n\r\n",
                              {403}),
    "evil origin": (post(SMALL, b"Origin: https://evil.example"), {403}),
    "null origin": (post(SMALL, b"Origin: null"), {403}),
    "OPTIONS of an evil origin": (b"OPTIONS /v1/models HTTP/1.1\r\n" + HOST +
                                  b"Origin: https://evil.example\r\n"
                                  b"Access-Control-Request-Method: POST\r\n\r\n", {403}),
    "other expectation": (post(SMALL, b"Expect: 200-ok"), {417}),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), {400}),
    "slot id with a path": (b"POST /slots/..%2f..%2fx?action=erase HTTP/1.1\r\n" + HOST +
                            b"Content-Length: 0\r\n\r\n", {400}),
    "slot id is negative": (b"POST /slots/-1?action=erase HTTP/1.1\r\n" + HOST +
                            b"Content-Length: 0\r\n\r\n", {400}),
    "slot id of 2^32": (b"POST /slots/4294967296?action=erase HTTP/1.1\r\n" + HOST +
                        b"Content-Length: 0\r\n\r\n", {400}),
    "slot that is not": (b"POST /slots/77?action=erase HTTP/1.1\r\n" + HOST +
                         b"Content-Length: 0\r\n\r\n", {400, 404}),
    "slot action": (b"POST /slots/0?action=burn HTTP/1.1\r\n" + HOST +
                    b"Content-Length: 0\r\n\r\n", {400}),
    "slot name with a path": (post(b'{"filename": "../x"}', path=b"/slots/0?action=save"), {400}),
    "slot name is empty": (post(b'{"filename": ""}', path=b"/slots/0?action=save"), {400}),
    "slot name of 1 MB": (post(b'{"filename": "%s"}' % (b"a" * 1000000),
                               path=b"/slots/0?action=save"), {400}),
}

# H7, U1: bodies that are no JSON, or not one anybody should accept.
BODIES = {
    "empty": b"",
    "bracket": b"{",
    "array": b"[]",
    "string": b'"x"',
    "number": b"1",
    "null": b"null",
    "two values": b"{} {}",
    "trailing comma": b'{"prompt": "a",}',
    "comment": b'{"prompt": "a"} // x',
    "single quotes": b"{'prompt': 'a'}",
    "duplicate key": b'{"prompt": "a", "prompt": "b"}',
    "duplicate key by an escape": b'{"prompt": "a", "\\u0070rompt": "b"}',
    "huge number": b'{"prompt": "a", "temperature": 1e400}',
    "NaN": b'{"prompt": "a", "temperature": NaN}',
    "infinity": b'{"prompt": "a", "temperature": Infinity}',
    "depth of 10^5": b'{"prompt": ' + b"[" * 100000 + b"]" * 100000 + b"}",
    "10^5 open brackets": b"[" * 100000,
    "5 million values": b'{"prompt": [' + b"1," * 5_000_000 + b"1]}",
    "0x80": b'{"prompt": "\x80"}',
    "overlong": b'{"prompt": "\xc0\xaf"}',
    "surrogate": b'{"prompt": "\xed\xa0\x80"}',
    "beyond Unicode": b'{"prompt": "\xf5\x80\x80\x80"}',
    "cut character": b'{"prompt": "\xf0\x9f\x98"}',
    "lone surrogate escape": b'{"prompt": "\\ud800"}',
    "NUL": b'{"prompt": "a\0b"}',
    "byte order mark": b'\xef\xbb\xbf{"prompt": "a"}',
    "UTF-16": '{"prompt": "a"}'.encode("utf-16"),
    "bad escape": b'{"prompt": "\\x41"}',
    "newline in a string": b'{"prompt": "a\nb"}',
}

# H8, U4-U7: (path, body, param). Each is refused with 400 that names the field.
OVER = 2**63
FIELDS = [
    ("/v1/completions", {"prompt": "a", "n": 10**6}, "n"),
    ("/v1/completions", {"prompt": "a", "n": 0}, "n"),
    ("/v1/completions", {"prompt": "a", "n": -1}, "n"),
    ("/v1/completions", {"prompt": "a", "n": 1.5}, "n"),
    ("/v1/completions", {"prompt": "a", "n": "2"}, "n"),
    ("/v1/completions", {"prompt": "a", "best_of": 10**6}, "best_of"),
    ("/v1/completions", {"prompt": "a", "best_of": 2}, "best_of"),
    ("/v1/completions", {"prompt": "a", "logprobs": 10**9}, "logprobs"),
    ("/v1/completions", {"prompt": "a", "logprobs": -1}, "logprobs"),
    ("/v1/completions", {"prompt": "a", "logit_bias": {"99999999": 1}}, "logit_bias"),
    ("/v1/completions", {"prompt": "a", "logit_bias": {"-1": 1}}, "logit_bias"),
    ("/v1/completions", {"prompt": "a", "logit_bias": {"1": 101}}, "logit_bias"),
    ("/v1/completions", {"prompt": "a", "logit_bias": {"x": 1}}, "logit_bias"),
    ("/v1/completions", {"prompt": "a", "logit_bias": {"1": "1"}}, "logit_bias"),
    ("/v1/completions", {"prompt": "a", "logit_bias": [1]}, "logit_bias"),
    ("/v1/completions", {"prompt": "a", "logit_bias": {str(i): 1 for i in range(2000)}},
     "logit_bias"),
    ("/v1/completions", {"prompt": "a", "temperature": -1}, "temperature"),
    ("/v1/completions", {"prompt": "a", "temperature": 3}, "temperature"),
    ("/v1/completions", {"prompt": "a", "temperature": "hot"}, "temperature"),
    ("/v1/completions", {"prompt": "a", "top_p": 2}, "top_p"),
    ("/v1/completions", {"prompt": "a", "top_p": 0}, "top_p"),
    ("/v1/completions", {"prompt": "a", "min_p": -0.1}, "min_p"),
    ("/v1/completions", {"prompt": "a", "top_k": -2}, "top_k"),
    ("/v1/completions", {"prompt": "a", "top_k": OVER}, "top_k"),
    ("/v1/completions", {"prompt": "a", "presence_penalty": 3}, "presence_penalty"),
    ("/v1/completions", {"prompt": "a", "frequency_penalty": -3}, "frequency_penalty"),
    ("/v1/completions", {"prompt": "a", "repetition_penalty": 0}, "repetition_penalty"),
    ("/v1/completions", {"prompt": "a", "seed": 2**64}, "seed"),
    ("/v1/completions", {"prompt": "a", "seed": 1.5}, "seed"),
    ("/v1/completions", {"prompt": "a", "max_tokens": -1}, "max_tokens"),
    ("/v1/completions", {"prompt": "a", "max_tokens": 0}, "max_tokens"),
    ("/v1/completions", {"prompt": "a", "max_tokens": OVER}, "max_tokens"),
    ("/v1/completions", {"prompt": "a", "max_tokens": 2**31}, "max_tokens"),
    ("/v1/completions", {"prompt": "a", "max_tokens": 4096}, "max_tokens"),
    ("/v1/completions", {"prompt": "a", "stream": "true"}, "stream"),
    ("/v1/completions", {"prompt": "a", "echo": 1}, "echo"),
    ("/v1/completions", {"prompt": "a", "stop": ""}, "stop"),
    ("/v1/completions", {"prompt": "a", "stop": ["x"] * 10000}, "stop"),
    ("/v1/completions", {"prompt": "a", "stop": [1]}, "stop"),
    ("/v1/completions", {"prompt": "a", "stop": "x" * 300}, "stop"),
    ("/v1/completions", {"prompt": "a", "stop_token_ids": [-1]}, "stop_token_ids"),
    ("/v1/completions", {"prompt": "a", "suffix": "b"}, "suffix"),
    ("/v1/completions", {"prompt": "a", "chat_template": "{{ x }}"}, "chat_template"),
    ("/v1/completions", {"prompt": "a", "stream_options": {"include_usage": True}},
     "stream_options"),
    ("/v1/completions", {}, "prompt"),
    ("/v1/completions", {"prompt": None}, "prompt"),
    ("/v1/completions", {"prompt": 1}, "prompt"),
    ("/v1/completions", {"prompt": {}}, "prompt"),
    ("/v1/completions", {"prompt": ""}, "prompt"),
    ("/v1/completions", {"prompt": []}, "prompt"),
    ("/v1/completions", {"prompt": [[]]}, "prompt"),
    ("/v1/completions", {"prompt": ["a", 1]}, "prompt"),
    ("/v1/completions", {"prompt": ["a"] * 65}, "prompt"),
    ("/v1/completions", {"prompt": [-1]}, "prompt"),
    ("/v1/completions", {"prompt": [8192]}, "prompt"),
    ("/v1/completions", {"prompt": [2**31]}, "prompt"),
    ("/v1/completions", {"prompt": [OVER]}, "prompt"),
    ("/v1/completions", {"prompt": [1.5]}, "prompt"),
    ("/v1/completions", {"prompt": [True]}, "prompt"),
    (CHAT, {}, "messages"),
    (CHAT, {"messages": []}, "messages"),
    (CHAT, {"messages": {}}, "messages"),
    (CHAT, {"messages": "hi"}, "messages"),
    (CHAT, {"messages": [1]}, "messages[0]"),
    (CHAT, {"messages": [{"role": "user", "content": "a"}] * 4097}, "messages"),
    (CHAT, {"messages": [{"content": "a"}]}, "messages[0].role"),
    (CHAT, {"messages": [{"role": "king", "content": "a"}]}, "messages[0].role"),
    (CHAT, {"messages": [{"role": "user"}]}, "messages[0].content"),
    (CHAT, {"messages": [{"role": "user", "content": 1}]}, "messages[0].content"),
    (CHAT, {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url":
        {"url": "http://169.254.169.254/"}}]}]}, "messages[0].content"),
    (CHAT, {"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content"),
    (CHAT, {"messages": USER, "top_logprobs": 21, "logprobs": True}, "top_logprobs"),
    (CHAT, {"messages": USER, "top_logprobs": 2}, "top_logprobs"),
    (CHAT, {"messages": USER, "logprobs": 1}, "logprobs"),
    (CHAT, {"messages": USER, "max_completion_tokens": 0}, "max_completion_tokens"),
    (CHAT, {"messages": [{"role": "assistant", "tool_calls": [
        {"function": {"name": "f", "arguments": False}}]}]}, "messages[0].tool_calls"),
    (CHAT, {"messages": USER, "response_format": "json"}, "response_format"),
    (CHAT, {"messages": USER, "response_format": {}}, "response_format.type"),
    (CHAT, {"messages": USER, "response_format": {"type": "json_schema"}},
     "response_format.json_schema"),
    (CHAT, {"messages": USER, "response_format": {"type": "json_schema", "json_schema":
        {"name": "a", "schema": {"type": "string", "pattern": "(?=a)b"}}}}, "response_format"),
    (CHAT, {"messages": USER, "tools": [{}]}, "tools[0].function"),
    (CHAT, {"messages": USER, "tools": [{"type": "function", "function": {"name": "a b"}}]},
     "tools[0].function.name"),
    (CHAT, {"messages": USER, "tools": [{"type": "function", "function": {"name": "a"}}] * 2},
     "tools[1].function.name"),
    (CHAT, {"messages": USER, "tools": [{"type": "function", "function": {"name": "a"}}] * 129},
     "tools"),
    (CHAT, {"messages": USER, "tool_choice": "required"}, "tool_choice"),
    (CHAT, {"messages": USER, "tool_choice": {"type": "function", "function": {"name": "x"}}},
     "tool_choice"),
    (CHAT, {"messages": USER, "chat_template": "{{ x }}"}, "chat_template"),
    (CHAT, {"messages": USER, "chat_template_kwargs": []}, "chat_template_kwargs"),
    (CHAT, {"messages": USER, "continue_final_message": True}, "continue_final_message"),
    (CHAT, {"messages": USER, "functions": []}, "functions"),
    ("/tokenize", {}, "content"),
    ("/tokenize", {"content": 1}, "content"),
    ("/detokenize", {}, "tokens"),
    ("/detokenize", {"tokens": [-1]}, "tokens"),
    ("/detokenize", {"tokens": [10**9]}, "tokens"),
    ("/detokenize", {"tokens": "abc"}, "tokens"),
]


class Malformed(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.addClassCleanup(cls.server.close)

    def healthy(self):
        self.assertIsNone(self.server.process.poll(), self.server.text().decode())
        self.assertEqual(self.server.request("GET", "/health")[0], 200)

    def test_broken_http(self):
        for name, (data, statuses) in HTTP.items():
            with self.subTest(name):
                answer = self.server.raw(data)
                self.assertIn(status_of(answer), statuses, answer[:300])
                body = answer.partition(b"\r\n\r\n")[2]
                if body:
                    json.loads(body)["error"]["message"].encode()
                self.assertNotIn(b"Access-Control", answer)
        self.healthy()

    def test_bodies_that_are_no_json(self):
        for name, data in BODIES.items():
            with self.subTest(name):
                status, _, content = self.server.request("POST", "/v1/completions", data)
                self.assertEqual(status, 400, content)
                self.assertEqual(content["error"]["type"], "invalid_request_error")
                self.assertEqual(content["error"]["code"], "invalid_json")
        self.healthy()

    def test_fields_out_of_range(self):
        for path, body, param in FIELDS:
            with self.subTest(path, body=str(body)[:120]):
                status, _, content = self.server.request("POST", path, body)
                self.assertEqual(status, 400, content)
                self.assertEqual(content["error"]["param"], param, content)
                self.assertIn(param.split(".")[-1].split("[")[0], content["error"]["message"])
        self.healthy()

    def test_the_position_of_what_is_wrong(self):
        _, _, content = self.server.request("POST", "/v1/completions", b'{"prompt": "\x80"}')
        self.assertIn("0x80 at offset 12", content["error"]["message"])
        _, _, content = self.server.request("POST", "/v1/completions", b'{"prompt": tru}')
        self.assertIn("byte 14 of 15", content["error"]["message"])

    def test_deep_schemas_and_values(self):
        schema = {}
        for _ in range(100):
            schema = {"items": schema}
        status, _, content = self.server.request("POST", CHAT, {
            "messages": USER, "max_tokens": 1,
            "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}})
        self.assertEqual(status, 400, content)
        self.healthy()

    def test_more_tokens_than_the_context(self):
        for tokens, status in ((4094, 200), (4095, 200), (4096, 400), (4097, 400), (60000, 400)):
            with self.subTest(tokens):
                got, _, content = self.server.request(
                    "POST", "/v1/completions", {"prompt": [11] * tokens, "max_tokens": 1}, timeout=300)
                self.assertEqual(got, status, content)
                if status == 400:
                    self.assertEqual(content["error"]["code"], "context_length_exceeded")
                    self.assertIn(str(tokens), content["error"]["message"])
                    self.assertIn("4096", content["error"]["message"])

    def test_texts_that_cannot_fit_are_refused_before_they_become_tokens(self):
        for text in ("a" * 20_000_000, " " * 20_000_000, "e\u0301" * 2_000_000):
            status, _, content = self.server.request("POST", "/v1/completions", {"prompt": text})
            self.assertEqual(status, 400)
            self.assertEqual(content["error"]["code"], "context_length_exceeded")

    def test_long_runs_of_one_character(self):
        for text in ("a" * 100_000, "\n" * 100_000, "\u200d" * 50_000, "\u6f22" * 50_000,
                     "\U0001f468\u200d" * 20_000):
            status, _, content = self.server.request("POST", "/tokenize", {"content": text})
            self.assertEqual(status, 200, content)
        status, _, content = self.server.request("POST", CHAT, {"max_tokens": 1, "messages": [
            *USER, {"role": "tool", "tool_call_id": "x", "content": "Z" * (128 << 10)}]})
        self.assertIn(status, (200, 400), content)
        self.healthy()

    def test_a_body_that_ends_early(self):
        self.assertEqual(self.server.raw(post(SMALL, length=False, *[b"Content-Length: 999"]),
                                         timeout=0.5), b"")
        self.healthy()

    def test_text_of_the_client_in_errors_stays_json(self):
        name = '"\\\u0000\x1b[31m\u2028<script>' + "x" * 100
        _, _, content = self.server.request("POST", CHAT, {"model": name, "messages": USER})
        self.assertEqual(content["error"]["code"], "model_not_found")
        self.assertNotIn("\x1b", content["error"]["message"])
        self.assertNotIn("\x1b", self.server.text().decode())


class GoodHttp(unittest.TestCase):
    """The other side of strictness: what must work."""

    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.addClassCleanup(cls.server.close)

    def test_forms_that_are_allowed(self):
        chunks = b"5\r\n" + SMALL[:5] + b"\r\n%x;x=y\r\n" % (len(SMALL) - 5) + SMALL[5:]
        for name, data in {
                "empty line in front": b"\r\nGET /health HTTP/1.1\r\n" + HOST + b"\r\n",
                "HTTP/1.0": b"GET /health HTTP/1.0\r\n\r\n",
                "HEAD": b"HEAD /health HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n",
                "absolute form": b"GET http://localhost/health HTTP/1.1\r\n" + HOST + b"\r\n",
                "query": b"GET /health?x=1 HTTP/1.1\r\n" + HOST + b"\r\n",
                "IPv6": b"GET /health HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n",
                "chunked": chunked(chunks + b"\r\n0\r\n\r\n"),
                "identity": post(SMALL, b"Content-Encoding: identity"),
                "client's own headers": b"GET /health HTTP/1.1\r\n" + HOST +
                                        b"REMOTE_ADDR: 1.2.3.4\r\nX-Forwarded-For:\r\n\r\n",
        }.items():
            with self.subTest(name):
                answer = self.server.raw(data)
                self.assertEqual(status_of(answer), 200, answer)

    def test_expect_continue(self):
        head = post(b"", b"Content-Length: %d" % len(SMALL), b"Expect: 100-continue", length=False)
        with socket.create_connection((self.server.host, self.server.port), timeout=60) as client:
            client.sendall(head)
            first = client.recv(1000)
            self.assertEqual(first, b"HTTP/1.1 100 Continue\r\n\r\n")
            client.sendall(SMALL)
            self.assertTrue(client.recv(1000).startswith(b"HTTP/1.1 200"))

    def test_pipelined_requests_are_answered_in_order(self):
        one = b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n"
        two = b"GET /nothing HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
        with socket.create_connection((self.server.host, self.server.port), timeout=10) as client:
            client.sendall(one + two)
            answer = b""
            while data := client.recv(65536):
                answer += data
        self.assertRegex(answer, rb"(?s)^HTTP/1.1 200.*HTTP/1.1 404")

    def test_paths_without_a_body_take_none(self):
        for path in ("/health", "/v1/models", "/"):
            status, _, content = self.server.request("GET", path, b"{}")
            self.assertEqual((status, content["error"]["code"]), (413, "body_too_large"))
            self.assertEqual(self.server.request("GET", path, b"")[0], 200)

    def test_allow_names_the_methods(self):
        _, headers, _ = self.server.request("PUT", "/v1/models")
        self.assertEqual(headers["Allow"], "GET, HEAD, OPTIONS")
        _, headers, _ = self.server.request("GET", CHAT)
        self.assertEqual(headers["Allow"], "POST, OPTIONS")


if __name__ == "__main__":
    unittest.main()
