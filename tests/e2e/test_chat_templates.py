# SPDX-License-Identifier: Apache-2.0
"""Chat templates against Jinja2, and the ids of prompts against Hugging Face `tokenizers`, live.

Environment: HGA_BUILD_DIR (its tests/template_driver is the program under test), HGA_TEST_SEED.
"""
import json
import os
import pathlib
import random
import subprocess
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
try:
    import golden_templates as golden
except ImportError:
    golden = None
try:
    from tokenizers import Tokenizer
except ImportError:
    Tokenizer = None

DRIVER = os.path.join(os.environ.get("HGA_BUILD_DIR", "build/release"), "tests", "template_driver")
MODEL = ROOT / "models/hga-mini"
SEED = int(os.environ.get("HGA_TEST_SEED", "20251125"))


def ask(requests):
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    run = subprocess.run([DRIVER, str(MODEL)], input=lines, capture_output=True, text=True,
                         check=True, encoding="utf-8")
    return [json.loads(line) for line in run.stdout.split("\n") if line]


# Values and operations that make up random expressions; all of them are known to the engine.
ATOMS = ["0", "1", "-2", "3.5", "'a'", "'B c'", "''", "' x\\n'", "'héß'", "true", "false", "none",
         "missing", "messages", "m", "m.role", "m.content", "m['tool_calls']", "[1, 2, 3]", "[]",
         "('a', 'b')", "{'k': 1, 'z': [2]}", "v.list", "v.text", "v.n", "v.none", "v.dict", "range(3)"]
FILTERS = ["trim", "upper", "lower", "length", "first", "last", "list", "string", "tojson", "title",
           "default('d')", "default('d', true)", "join('-')", "reverse", "sort", "capitalize", "int",
           "float", "abs", "unique", "items", "dictsort", "replace('a', 'zz')", "map('string')",
           "select", "selectattr('k')", "map(attribute='role')", "tojson(indent=2)", "indent(1)",
           "max", "min", "round(1)"]
TESTS = ["defined", "none", "string", "mapping", "iterable", "number", "sequence", "true", "false",
         "odd", "boolean", "integer", "float", "lower", "upper", "in [1, 'a']", "eq 1"]
METHODS = ["strip()", "split()", "split('a')", "upper()", "startswith('a')", "endswith('c')", "title()",
           "get('k')", "items()", "keys()", "lstrip('a')", "rstrip()", "find('c')", "splitlines()"]
BINARY = ["+", "-", "*", "//", "/", "%", "~", "==", "!=", "<", ">=", "in", "not in", "and", "or"]
VALUES = {"list": ["b", "A", "c"], "text": "some  <text> é", "n": 7, "none": None,
          "dict": {"role": "r", "k": {"deep": [1.0, True]}, "items": 5}}
MESSAGES = [{"role": "user", "content": "abc"}, {"role": "tool", "content": " 日本 ", "k": 1}]


def expression(rng, depth):
    kind = rng.randrange(9) if depth else 0
    inner = lambda: expression(rng, depth - 1)
    if kind <= 1:
        return rng.choice(ATOMS)
    if kind == 2:
        return f"({inner()}) | {rng.choice(FILTERS)}"
    if kind == 3:
        return f"({inner()}) is {rng.choice(['', 'not '])}{rng.choice(TESTS)}"
    if kind == 4:
        return f"({inner()}).{rng.choice(METHODS)}"
    if kind == 5:
        return f"({inner()})[{rng.choice(['0', '-1', '1:', ':2', '::-1', '1', chr(39) + 'k' + chr(39)])}]"
    if kind == 6:
        return f"({inner()} if {inner()} else {inner()})"
    return f"({inner()}) {rng.choice(BINARY)} ({inner()})"


def statement(rng, depth):
    kind = rng.randrange(7) if depth else 0
    inner = lambda: "".join(statement(rng, depth - 1) for _ in range(rng.randint(0, 2)))
    left, right = rng.choice(["{%", "{%-", "{%+"]), rng.choice(["%}", "-%}", "%}\n"])
    space = rng.choice(["", " ", "\n", "\n  ", "x", " y\n"])
    if kind <= 1:
        return space + "{{" + rng.choice(["", "-"]) + " " + expression(rng, 2) + " " + \
            rng.choice(["}}", "-}}", "}}\n"])
    if kind == 2:
        return f"{space}{left} if {expression(rng, 2)} {right}{inner()}{left} else {right}{inner()}" \
               f"{left} endif {right}"
    if kind == 3:
        body = rng.choice(["", "{{ loop.index }}{{ loop.last }}", "{{ m }}"])
        skip = rng.choice(["", "{% if m %}{% break %}{% endif %}", "{% if not m %}{% continue %}{% endif %}"])
        cond = rng.choice(["", " if m"])
        return f"{space}{left} for m in {rng.choice(ATOMS)}{cond} {right}{body}{skip}{inner()}" \
               f"{left} else {right}e{left} endfor {right}"
    if kind == 4:
        return f"{left} set m = {expression(rng, 2)} {right}{inner()}"
    if kind == 5:
        return f"{left} set m {right}{inner()}{left} endset {right}{{{{ m }}}}"
    return f"{space}{{#{rng.choice(['', '-'])} note {rng.choice(['', '-'])}#}}{rng.choice(['', chr(10)])}"


@unittest.skipIf(golden is None, "jinja2 is not installed")
class AgainstJinja(unittest.TestCase):
    def test_recorded_cases_are_still_what_jinja_gives(self):
        recorded = json.loads((ROOT / "tests/golden/data/chat_templates.json").read_text())
        self.assertEqual(json.loads(json.dumps(golden.record()))["records"], recorded["records"])

    def test_random_templates(self):
        """Where both render, texts are equal; the engine may refuse more, never render more."""
        rng = random.Random(SEED)
        print("seed", SEED)
        sources = ["".join(statement(rng, 2) for _ in range(rng.randint(1, 3))) for _ in range(6000)]
        common = {"messages": json.dumps(MESSAGES), "options": json.dumps({"v": VALUES, "m": MESSAGES[0]})}
        answers = ask([dict(common, template=source) for source in sources])
        both = stricter = 0
        for source, answer in zip(sources, answers):
            wanted = golden.render(source, "", "", MESSAGES, None, {"v": VALUES, "m": MESSAGES[0]})
            if "text" not in answer:
                stricter += wanted is not None
                continue
            self.assertEqual(answer["text"], wanted, source)
            both += 1
        print(f"{both} rendered alike, {stricter} refused by the engine alone")
        self.assertGreater(both, 1500)
        self.assertLess(stricter, 600)


@unittest.skipIf(golden is None or Tokenizer is None, "jinja2 or tokenizers is not installed")
class Ids(unittest.TestCase):
    def test_prompts_have_the_ids_of_the_whole_text(self):
        theirs = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
        sources, requests = golden.templates(), []
        for template, conversation, with_tools, options, start in golden.cases():
            if conversation not in ("look-alikes", "calls"):
                bos, eos = golden.TOKENS[template]
                requests.append({
                    "template": sources[template], "bos": bos, "eos": eos,
                    "messages": json.dumps(golden.CONVERSATIONS[conversation]),
                    "tools": json.dumps(golden.TOOLS) if with_tools else "",
                    "options": json.dumps(golden.OPTIONS[options]), "add_generation_prompt": start})
        compared = 0
        for answer in ask(requests):
            if "ids" in answer:
                wanted = theirs.encode(answer["text"], add_special_tokens=False).ids
                self.assertEqual(answer["ids"], wanted, answer["text"])
                compared += 1
        self.assertGreater(compared, 400)


if __name__ == "__main__":
    unittest.main()
