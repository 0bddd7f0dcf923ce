# SPDX-License-Identifier: Apache-2.0
"""Token ids and decoded texts against the Hugging Face `tokenizers` package.

    test_tokenizer_equality.py [unittest options]

Environment: HGA_BUILD_DIR (its tests/tokenizer_driver is the program under test; HGA_TOKENIZER_DRIVER
overrides), HGA_TOKENIZER_TEXTS (folder of *.txt beside the repository's examples/), HGA_TEST_SEED.
"""
import array
import copy
import json
import os
import pathlib
import random
import re
import struct
import subprocess
import tempfile
import time
import unittest

from tokenizers import Tokenizer

ROOT = pathlib.Path(__file__).resolve().parents[2]
DRIVER = os.environ.get("HGA_TOKENIZER_DRIVER",
                        os.path.join(os.environ.get("HGA_BUILD_DIR", "build/release"),
                                     "tests", "tokenizer_driver"))
SEED = int(os.environ.get("HGA_TEST_SEED", "20240607"))
BASE = json.loads((ROOT / "models/hga-mini/tokenizer.json").read_text())
RANDOM_STRINGS = 100_000

SPLIT = {"type": "Split", "behavior": "Isolated", "invert": False}
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
              "use_regex": False}
LLAMA = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN_MARKS = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
              r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CASES = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
         r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
         r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}"
         r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
STEPS = (r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+",
         r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
         r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def with_patterns(document, *patterns):
    splits = [dict(SPLIT, pattern={"Regex": p}) for p in patterns]
    document["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": splits + [BYTE_LEVEL]}
    return document


def with_added(document):
    """Added tokens of every kind of matching, some overlapping."""
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    kinds = [("<word>", "single_word"), ("ing", "single_word"), ("<left>", "lstrip"),
             ("<right>", "rstrip"), ("<both>", "lstrip rstrip"), ("<norm\u00e9>", "normalized"),
             ("<raw\u00e9>", ""), ("<|im", ""), ("<|im_start|>user", "special"), ("  ", ""),
             ("\u212b", "normalized"), ("\u1100", "normalized special"), ("the", "normalized"),
             ("\n\n", "lstrip"), ("<S>", "special lstrip rstrip single_word")]
    for content, names in kinds:
        known = document["model"]["vocab"].get(content)
        following = max(t["id"] for t in document["added_tokens"]) + 1
        document["added_tokens"].append(
            {"id": following if known is None else known, "content": content,
             **{f: f in names.split() for f in flags}})
    return document


def variants():
    """{name: tokenizer.json}: what real checkpoints do differently."""
    result = {"as it is": BASE}
    strings = copy.deepcopy(BASE)
    strings["model"]["merges"] = [" ".join(m) for m in strings["model"]["merges"]]
    result["merges as strings"] = strings
    llama = with_patterns(copy.deepcopy(BASE), LLAMA)
    llama["normalizer"] = None
    llama["model"]["ignore_merges"] = True
    result["Llama 3"] = llama
    result["Qwen with marks"] = with_patterns(copy.deepcopy(BASE), QWEN_MARKS)
    result["case classes"] = with_patterns(copy.deepcopy(BASE), CASES)
    result["three splits"] = with_patterns(copy.deepcopy(BASE), *STEPS)
    gpt2 = copy.deepcopy(BASE)
    gpt2["normalizer"] = None
    gpt2["pre_tokenizer"] = dict(BYTE_LEVEL, add_prefix_space=True, use_regex=True)
    result["GPT-2"] = gpt2
    result["added tokens"] = with_added(copy.deepcopy(BASE))
    literal = copy.deepcopy(BASE)
    literal["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [
        dict(SPLIT, pattern={"String": "e."}), dict(SPLIT, pattern={"Regex": r"x*|^b|\d$"}),
        BYTE_LEVEL]}
    result["literal and empty matches"] = literal
    return result


def random_strings(count, seed):
    rng = random.Random(seed)
    scripts = [(0x20, 0x7E), (0x20, 0x7E), (0xA0, 0x24F), (0x370, 0x3FF), (0x400, 0x4FF),
               (0x590, 0x6FF), (0x900, 0x97F), (0xE00, 0xE7F), (0x1100, 0x11FF), (0x3040, 0x30FF),
               (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0x1F300, 0x1FAFF), (0x300, 0x36F),
               (0x2000, 0x206F), (0x0, 0xD7FF), (0xE000, 0x10FFFF)]
    fixed = ["'s", "'T", "'re", "'\u017f", "'LL", "'d", "<|im_start|>", "<|im_end|>", "<|im_start|",
             "<|endoftext|>", "<|im", " ", "  ", "\t", "\n", "\n\n", "\r\n", " \n ", "\u180e", "\u00a0",
             "\u3000", "\u2028", "\u0085", "e\u0301", "\u0301", "\u0327\u0301\u0323", "\u1100\u1161\u11a8",
             "\u212b", "\ufb01", "\u0958", "\U0001f469\u200d\U0001f469\u200d\U0001f467",
             "\U0001f1e9\U0001f1ea", "\ufe0f", "\u200b", "\ufeff", "\x00", "the", " the", "ing", "<word>",
             "<left>", "<right>", " <both> ", "<norme\u0301>", "<norm\u00e9>", "<raw\u00e9>", "<S>", "e.",
             "user", "007", "1234567", "x", "xx", "b", "\u0130", "\u00df", "\u01c5", "I'VE", "...", "?!\n", "/"]

    def piece():
        choice = rng.random()
        if choice < 0.4:
            return rng.choice(fixed)
        low, high = rng.choice(scripts)
        if choice < 0.5:
            return chr(rng.randint(low, high)) * rng.randint(1, 90)
        return "".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 6)))

    return ["".join(piece() for _ in range(rng.randint(0, 8))) for _ in range(count)]


def ask(document, requests):
    """The driver's answers [(sign, bytes)] to [(kind, payload)]; its own timing is printed."""
    with tempfile.TemporaryDirectory() as folder:
        model, stdin, stdout = (os.path.join(folder, n) for n in ("tokenizer.json", "in", "out"))
        with open(model, "w", encoding="utf-8") as file:
            json.dump(document, file, ensure_ascii=False)
        with open(stdin, "wb") as file:
            for kind, payload in requests:
                file.write(kind + struct.pack("<I", len(payload)) + payload)
        with open(stdin, "rb") as source, open(stdout, "wb") as target:
            done = subprocess.run([DRIVER, model], stdin=source, stdout=target, check=False,
                                  stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise AssertionError(f"driver: exit {done.returncode}: {done.stderr}")
        data = pathlib.Path(stdout).read_bytes()
    answers, at = [], 0
    while at < len(data):
        length, = struct.unpack_from("<I", data, at + 1)
        answers.append((data[at:at + 1], data[at + 5:at + 5 + length]))
        at += 5 + length
    if len(answers) != len(requests):
        raise AssertionError(f"{len(answers)} answers to {len(requests)} requests")
    return answers, done.stderr.strip()


class Equality(unittest.TestCase):
    maxDiff = None

    def compare(self, document, strings, what, special=True):
        """Ids of every string, and the texts they decode to, with and without special tokens."""
        theirs = Tokenizer.from_str(json.dumps(document))
        theirs.encode_special_tokens = not special
        start = time.time()
        expected = []
        for first in range(0, len(strings), 20_000):
            batch = theirs.encode_batch_fast(strings[first:first + 20_000], add_special_tokens=False)
            expected += [array.array("i", e.ids).tobytes() for e in batch]
        their_seconds = time.time() - start
        kind = b"s" if special else b"t"
        requests = [(kind, s.encode()) for s in strings]
        answers, timing = ask(document, requests)
        for text, ids, (sign, got) in zip(strings, expected, answers):
            if sign != b"+" or got != ids:
                shown = list(array.array("i", got)) if sign == b"+" else got
                self.fail(f"{what}: {text[:200]!r}: {shown[:200]}, tokenizers says "
                          f"{list(array.array('i', ids))[:200]}")
        print(f"{what}: {len(strings)} strings equal, {sum(map(len, expected)) // 4} ids; {timing}, "
              f"tokenizers {their_seconds:.3f} s", flush=True)
        return theirs, expected

    def compare_decode(self, document, theirs, encoded, what):
        for kind, skip in ((b"d", True), (b"k", False)):
            lists = [list(array.array("i", ids)) for ids in encoded]
            expected = theirs.decode_batch(lists, skip_special_tokens=skip)
            answers, _ = ask(document, [(kind, ids) for ids in encoded])
            for ids, text, (sign, got) in zip(lists, expected, answers):
                self.assertEqual((sign, got.decode("utf-8", "replace")), (b"+", text),
                                 f"{what}: decode {ids[:100]}")
        print(f"{what}: {len(encoded)} lists of ids decode equally, twice", flush=True)

    def test_texts(self):
        folders = [ROOT / "examples", os.environ.get("HGA_TOKENIZER_TEXTS", "")]
        paths = [p for f in folders if f for p in sorted(pathlib.Path(f).rglob("*.txt"))
             if p.name != "CMakeLists.txt"]
        paths += [ROOT / "models/hga-mini/MODEL_CARD.md"]
        for path in paths:
            text = path.read_bytes().decode()
            theirs, encoded = self.compare(BASE, [text], path.name)
            self.compare_decode(BASE, theirs, encoded, path.name)
            answers, _ = ask(BASE, [(b"k", encoded[0])])
            if theirs.normalizer.normalize_str(text) == text:
                self.assertEqual(answers[0][1].decode(), text)

    def test_every_scalar_value(self):
        scalars = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
        self.assertEqual(len(scalars), 1_112_064)
        self.compare(BASE, scalars, "every scalar value alone")
        self.compare(BASE, [f"a{c}b {c}\u0301 1{c}\n{c} '{c}" for c in scalars],
                     "every scalar value in contexts")

    def test_every_scalar_value_in_other_patterns(self):
        scalars = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
        lines = ["".join(f"a{c}B {c}2" for c in scalars[i:i + 64]) for i in range(0, len(scalars), 64)]
        for name in ("Llama 3", "Qwen with marks", "case classes", "three splits", "GPT-2"):
            self.compare(variants()[name], lines, f"every scalar value, {name}")

    def test_random_strings(self):
        print(f"seed {SEED}")
        strings = random_strings(RANDOM_STRINGS, SEED)
        theirs, encoded = self.compare(BASE, strings, "random strings")
        self.compare_decode(BASE, theirs, encoded, "random strings")
        self.compare(BASE, strings, "random strings, special tokens as text", special=False)

    def test_random_strings_in_variants(self):
        print(f"seed {SEED}")
        for number, (name, document) in enumerate(variants().items()):
            strings = random_strings(10_000, SEED + 1 + number)
            theirs, encoded = self.compare(document, strings, name)
            self.compare_decode(document, theirs, encoded, name)
            self.compare(document, strings, f"{name}, special tokens as text", special=False)

    def test_random_ids_decode(self):
        rng = random.Random(SEED)
        document = variants()["added tokens"]
        theirs = Tokenizer.from_str(json.dumps(document))
        count = theirs.get_vocab_size()
        lists = [array.array("i", (rng.randrange(count) for _ in range(rng.randint(0, 30)))).tobytes()
                 for _ in range(20_000)]
        self.compare_decode(document, theirs, lists, f"random ids, seed {SEED}")

    def test_long_runs(self):
        size = 1 << 20
        strings = [c * size for c in "aZ \n\u0301\u4e00"]
        strings += ["\u0301\u0323" * (size // 2), "ab" * size, "\U0001f469\u200d" * (size // 4),
                    " a" * (size // 2), " \n" * (size // 2)]
        self.compare(BASE, strings, "runs of 1 Mi characters")

    def test_16_mb_of_one_letter(self):
        size = 16_000_000
        answers, timing = ask(BASE, [(b"s", b"a" * size)])
        seconds = float(re.search(r"in ([\d.]+) s", timing).group(1))
        print(f"16 MB of one letter: {len(answers[0][1]) // 4} ids, {timing}")
        self.assertEqual(answers[0][0], b"+")
        decoded, _ = ask(BASE, [(b"k", answers[0][1])])
        self.assertEqual(decoded[0][1], b"a" * size)
        self.assertLessEqual(seconds, 16)


if __name__ == "__main__":
    unittest.main(verbosity=2)
