# SPDX-License-Identifier: Apache-2.0
"""Answers under random JSON schemas, validated by the `jsonschema` package.

    test_constraint.py [unittest options]

Environment: HGA_BUILD_DIR (its tests/constraint_driver is the program under test), HGA_TEST_SEED.
"""
import datetime
import json
import os
import pathlib
import random
import subprocess
import unittest
import uuid

from jsonschema import Draft202012Validator, FormatChecker

import random_schemas

ROOT = pathlib.Path(__file__).resolve().parents[2]
DRIVER = os.path.join(os.environ.get("HGA_BUILD_DIR", "build/release"), "tests", "constraint_driver")
SEED = int(os.environ.get("HGA_TEST_SEED", "20240607"))


def is_date_or_time(schema_format, text):
    """Formats by Python's own parsers, which know nothing of grammars."""
    try:
        if schema_format == "date":
            datetime.date.fromisoformat(text)
        elif schema_format == "time":
            datetime.time.fromisoformat(text.replace("Z", "+00:00"))
        elif schema_format == "date-time":
            datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
        elif schema_format == "uuid":
            uuid.UUID(text)
    except ValueError:
        return False
    return True


def no_duplicates(pairs):
    names = [name for name, _ in pairs]
    assert len(set(names)) == len(names), f"a name twice in {names}"
    return dict(pairs)


class RandomSchemas(unittest.TestCase):
    def make_schemas(self, count):
        maker = random_schemas.Maker(random.Random(SEED))
        return [maker.document() for _ in range(count)]

    def answers(self, schemas, policy, tokens, rounds):
        requests = [{"schema": json.dumps(schema), "seed": SEED + i * rounds + r, "tokens": tokens,
                     "policy": policy} for i, schema in enumerate(schemas) for r in range(rounds)]
        run = subprocess.run([DRIVER, str(ROOT / "models/hga-mini")], text=True,
                             input="".join(json.dumps(r) + "\n" for r in requests),
                             capture_output=True, timeout=600, check=False)
        self.assertEqual(run.returncode, 0, run.stderr[-2000:])
        lines = [json.loads(line) for line in run.stdout.splitlines()]
        self.assertEqual(len(lines), len(requests))
        return zip((schema for schema in schemas for _ in range(rounds)), lines)

    def check(self, policy, schemas, tokens, rounds, least_share):
        checker = FormatChecker(formats=())
        for name in ("date", "time", "date-time", "uuid"):
            checker.checks(name)(lambda text, name=name: not isinstance(text, str) or
                                 is_date_or_time(name, text))
        asked = finished = impossible = 0
        for schema, line in self.answers(schemas, policy, tokens, rounds):
            if "refused" in line:  # only what no value can fulfil
                self.assertRegex(line["refused"], "no value|beside keywords", schema)
                impossible += 1
                continue
            asked += 1
            if not line["finished"]:
                continue
            finished += 1
            value = json.loads(line["answer"], object_pairs_hook=no_duplicates)
            errors = list(Draft202012Validator(schema, format_checker=checker).iter_errors(value))
            self.assertFalse(errors, f"seed {SEED}: {json.dumps(schema)}\n{line['answer']}")
        print(f"seed {SEED}, {policy}: {asked} answers, {finished} finished and valid, "
              f"{impossible} for schemas without values")
        self.assertGreater(finished, least_share * asked)
        self.assertLess(impossible, 0.1 * asked)

    def test_blind_choices(self):
        self.check("random", self.make_schemas(300), tokens=400, rounds=3, least_share=0.8)

    def test_model_at_temperature_1_5(self):
        self.check("model", self.make_schemas(100), tokens=120, rounds=1, least_share=0.3)


if __name__ == "__main__":
    unittest.main()
