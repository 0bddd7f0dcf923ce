#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws the figures of `hga eval gap --json FILE` as a PNG: loss gap and visible share per range.

    tools/plot_gap.py FILE.json FILE.png [--title TEXT]

Needs matplotlib (Debian: python3-matplotlib).
"""
import argparse
import json
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (the backend is chosen first)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("figures", help="file written by hga eval gap --json")
    parser.add_argument("picture", help="PNG to write")
    parser.add_argument("--title", help="default: the model and the number of texts")
    options = parser.parse_args()
    with open(options.figures, encoding="utf-8") as file:
        report = json.load(file)
    ranges = report["ranges"]
    rows = [row for row in report["rows"] if row["attention"] != "dense"]
    if not rows:
        sys.exit(f"{options.figures}: no rule beside dense attention, nothing to draw")

    figure, (gap, visible) = plt.subplots(
        2, 1, sharex=True, figsize=(8, 6.5), gridspec_kw={"height_ratios": [3, 1.3]})
    places = range(len(ranges))
    for row in rows:
        line, = gap.plot(places, row["gap"], marker="o", label=row["attention"])
        visible.plot(places, [100 * share for share in row["visible"]], marker="o",
                     color=line.get_color())
    gap.axhline(0, color="black", linewidth=0.8)
    gap.set_ylabel("loss above dense attention, nats")
    gap.legend()
    visible.set_yscale("log")
    visible.set_ylabel("visible share, %")
    visible.set_xticks(list(places), ranges)
    visible.set_xlabel("position, tokens")
    for axes in (gap, visible):
        axes.grid(alpha=0.3)
    texts = len(report.get("texts", []))
    gap.set_title(options.title or f"{report['model']}, mean of {texts} text(s)")
    figure.tight_layout()
    figure.savefig(options.picture, dpi=150)


if __name__ == "__main__":
    main()
