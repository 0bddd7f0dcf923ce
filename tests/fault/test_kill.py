# SPDX-License-Identifier: Apache-2.0
"""A program with a session is killed at random moments and at named places, and started again: no
acknowledged checkpoint is lost, and the answer is that of a run nobody interrupted.

HGA_KILLS=N kills in all (20); HGA_KILL_SEED=S another series of moments.
"""
import os
import pathlib
import random
import re
import signal
import subprocess
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("HGA_BUILD_DIR", ROOT / "build/release"))
DRIVER = str(BUILD / "tests/kill_driver")
MODEL = str(ROOT / "models/hga-mini")
KILLS = int(os.environ.get("HGA_KILLS", "20"))
SEED = int(os.environ.get("HGA_KILL_SEED", "1"))
MOST_KILLS_OF_A_SESSION = 4
COMMON = 300  # tokens that the driver's two prompts share


def kill_points():
    """The names compiled into the library, in the order of their files."""
    names = []
    for path in sorted((ROOT / "src").rglob("*.cc")):
        names += re.findall(r'KillPoint\("([^"]+)"\)', path.read_text(encoding="utf-8"))
    return names


class Run:
    """One start of the driver: what it said until it ended or was killed."""

    def __init__(self, arguments, point=None, after=None):
        environment = dict(os.environ)
        environment.pop("HGA_KILL_POINT", None)
        if point:
            environment["HGA_KILL_POINT"] = point
        started = time.monotonic()
        process = subprocess.Popen([DRIVER, MODEL, *arguments], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, env=environment)
        try:
            out, err = process.communicate(timeout=after if after else 300)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            out, err = process.communicate(timeout=60)
        self.seconds = time.monotonic() - started
        self.killed = process.returncode == -signal.SIGKILL
        self.code = process.returncode
        self.lines = out.decode().split("\n")[:-1]
        self.error = err.decode(errors="replace")

    def number(self, word):
        """The last number said after `word`, or None."""
        found = [int(line.split()[1]) for line in self.lines if line.startswith(word + " ")]
        return found[-1] if found else None

    def answer(self):
        found = [line for line in self.lines if line.startswith("answer ")]
        return found[-1] if found else None


class Killed(unittest.TestCase):
    def setUp(self):
        whole = Run([])
        self.assertEqual(whole.code, 0, whole.error)
        self.answer = whole.answer()
        self.random = random.Random(SEED)
        self.kills = 0
        self.by_point = {}
        self.recovered = 0

    def check_resumed(self, run, acknowledged, editing):
        """Nothing that was acknowledged is missing, unless the edit was published since."""
        resumed = run.number("resumed")
        if resumed is None:  # killed before it came so far
            self.assertTrue(run.killed, f"exit {run.code}: {run.error}")
            return
        known = [acknowledged] + ([COMMON] if editing else [])
        self.assertTrue(resumed >= min(known) and (resumed >= acknowledged or resumed == COMMON),
                        f"{resumed} tokens came back of {acknowledged}, editing: {editing}")

    def play(self, folder, plan):
        """Kills one session as `plan` says (points, or None for a random moment), then ends it."""
        arguments = [folder, f"killed {self.kills}"]
        acknowledged, editing = 0, False
        for point in plan + ["end"]:
            last = point == "end"
            after = None if last or point else self.random.uniform(0.05, self.usual)
            run = Run(arguments, None if last else point, after)
            self.check_resumed(run, acknowledged, editing)
            said = run.number("acknowledged")
            if said is not None:
                acknowledged = said
            # An edit that was acknowledged in full is behind us.
            editing = "editing" in run.lines or (editing and said is None)
            if point is plan[0] and point:
                self.assertTrue(run.killed, f"{point} is never passed")
            if run.killed:
                self.kills += 1
                name = point.rsplit(":", 1)[0] if point else "random"
                self.by_point[name] = self.by_point.get(name, 0) + 1
                continue
            self.assertEqual(run.code, 0, run.error)
            self.assertEqual(run.answer(), self.answer, f"after {plan}")
            self.recovered += 1
            return

    def test_nothing_acknowledged_is_lost(self):
        points = kill_points()
        self.assertGreaterEqual(len(points), 15)
        with tempfile.TemporaryDirectory(prefix="hga-kill-") as folder:
            first = Run([folder, "calm"])
            self.assertEqual(first.answer(), self.answer, first.error)
            self.usual = first.seconds
            turn = 0
            while self.kills < KILLS or turn < len(points):
                # Each point in turn, where it is passed first; then any of them, or any moment.
                plan = [f"{points[turn % len(points)]}:1"]
                for _ in range(self.random.randint(0, MOST_KILLS_OF_A_SESSION - 1)):
                    point = f"{self.random.choice(points)}:{self.random.choice((1, 2, 5))}"
                    plan.append(self.random.choice((None, point)))
                self.play(folder, plan)
                turn += 1
        print(f"\n{self.kills} kills ({self.by_point}), {self.recovered} sessions ended as they should")


if __name__ == "__main__":
    unittest.main()
