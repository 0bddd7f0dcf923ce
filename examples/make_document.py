#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Hides facts in a long text and writes prompts that ask for them.

    examples/make_document.py --out DIR [--text FILE] [--kilobytes 120] [--facts 4] [--seed N]

Writes DIR/document.txt, DIR/prompt-1.txt and so on (the document with one question at its end) and
DIR/answers.json (seed, and for each prompt the fact, where it stands and the right answer).
"""
import argparse
import json
import pathlib
import random
import sys

HERE = pathlib.Path(__file__).resolve().parent
ADJECTIVES = ("amber brass copper crimson distant emerald frozen gentle golden hidden hollow ivory "
              "marble narrow olive quiet rusty scarlet silver velvet wooden").split()
NOUNS = ("anchor basket beacon bridge candle castle compass falcon garden hammer harbor island "
         "kettle ladder lantern meadow mirror orchard ribbon saddle tower valley window").split()
MOST_FACTS = len(ADJECTIVES) * len(NOUNS) // 2


def draw_facts(count, rng):
    """`count` facts {key, number} whose keys differ."""
    keys = rng.sample([f"{adjective} {noun}" for adjective in ADJECTIVES for noun in NOUNS], count)
    return [{"key": key, "number": str(rng.randrange(1000000, 10000000))} for key in keys]


def hide(paragraphs, facts, rng):
    """Inserts one fact in each equal part of the text, between two paragraphs."""
    result = list(paragraphs)
    part = len(paragraphs) / len(facts)
    for index in reversed(range(len(facts))):  # from the back, so that places in front stay
        place = int(part * (index + rng.random()))
        fact = facts[index]
        fact["paragraph"] = place + index
        result.insert(place, f"The secret number for the {fact['key']} is {fact['number']}.")
    return "\n\n".join(result) + "\n"


def question(fact):
    return (f"\nWhat is the secret number for the {fact['key']}? "
            f"The secret number for the {fact['key']} is")


def make(text, size, count, seed):
    """The document, and its facts with their prompts."""
    rng = random.Random(seed)
    paragraphs, used = [], 0
    for paragraph in text.strip().split("\n\n"):
        if used >= size:
            break
        paragraphs.append(paragraph)
        used += len(paragraph.encode()) + 2
    if used < size:
        raise ValueError(f"the text has {used} bytes, {size} are wanted")
    facts = draw_facts(count, rng)
    document = hide(paragraphs, facts, rng)
    return document, facts


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--text", type=pathlib.Path, default=HERE / "text" / "middlemarch.txt")
    parser.add_argument("--kilobytes", type=int, default=120, help="about 3.8 bytes make a token")
    parser.add_argument("--facts", type=int, default=4)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    if not 1 <= options.facts <= MOST_FACTS:
        parser.error(f"--facts {options.facts}: between 1 and {MOST_FACTS}")
    seed = random.randrange(1000000) if options.seed is None else options.seed
    try:
        document, facts = make(options.text.read_text(encoding="utf-8"),
                               options.kilobytes * 1000, options.facts, seed)
    except (OSError, ValueError) as error:
        print(f"make_document: {options.text}: {error}", file=sys.stderr)
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "document.txt").write_text(document, encoding="utf-8")
    for index, fact in enumerate(facts, 1):
        fact["prompt"] = f"prompt-{index}.txt"
        (options.out / fact["prompt"]).write_text(document + question(fact), encoding="utf-8")
    (options.out / "answers.json").write_text(
        json.dumps({"seed": seed, "facts": facts}, indent=2) + "\n", encoding="utf-8")
    print(f"make_document: seed {seed}, {len(document.encode())} bytes, {len(facts)} facts "
          f"in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
