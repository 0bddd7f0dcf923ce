#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes hga(1) from the program's own help, so that the two cannot differ.

    tools/make_man.py build/release/apps/cli/hga hga.1

Groups of options that several verbs share word for word are printed once.
"""
import os
import pathlib
import re
import subprocess
import sys

SECTION = re.compile(r"(\S.*):$")
# "  NAME          TEXT", "  NAME (Env:HGA_X) TEXT" or, for a long name, the text on a line of its own
ENTRY = re.compile(r"  (?P<name>\S.*?)(?:\s{2,}(?P<text>\S.*))?$")
ENTRY_ENV = re.compile(r"  (?P<name>\S.*?\(Env:\w+\))(?:\s+(?P<text>\S.*))?$")
ROFF = {"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "~": r"\(ti", "^": r"\(ha"}
HOME = "/home/reader"  # stands for any


class Help:
    """One verb's help: what it is, its usage, groups of (name, text), the verbs below it."""

    def __init__(self, program, verb):
        self.verb = verb
        self.about, self.usage, self.footer, self.groups = [], "", [], []
        entries = None
        for line in help_of(program, verb).splitlines():
            if line.startswith("Usage: "):
                self.usage = line.removeprefix("Usage: ")
            elif not self.usage:
                self.about.append(line)
            elif section := SECTION.match(line):
                entries = []
                self.groups.append((section[1], entries))
            elif line.startswith("   ") and entries:
                name, text = entries[-1]
                entries[-1] = (name, f"{text} {line.strip()}".strip())
            elif line.startswith("  ") and entries is not None:
                entries.append(parse_entry(line))
            elif line.strip():
                self.footer.append(line)
        self.verbs = [name for title, found in self.groups if title == "Subcommands"
                      for name, _ in found]
        self.groups = [group for group in self.groups if group[0] != "Subcommands"]


def help_of(program, verb):
    # Nothing of the machine it is built on: neither settings nor whose home it is.
    clean = {key: value for key, value in os.environ.items()
             if not key.startswith(("HGA_", "HF_", "XDG_"))}
    run = subprocess.run([program, *verb, "--help"], capture_output=True, text=True, check=True,
                         env=clean | {"LC_ALL": "C.UTF-8", "HOME": HOME})
    return run.stdout.replace(HOME, "~")


def parse_entry(line):
    plain = ENTRY.match(line)
    found = plain if plain["text"] else ENTRY_ENV.match(line) or plain
    return found["name"], found["text"] or ""


def read_all(program, verb=()):
    """The help of `verb` and of everything below it, in the program's order."""
    helps = [Help(program, list(verb))]
    for name in helps[0].verbs:
        helps += read_all(program, (*verb, name))
    return helps


def escape(text):
    for sign, name in ROFF.items():
        text = text.replace(sign, name)
    return r"\&" + text if text.startswith(".") else text


def write_group(lines, group):
    title, entries = group
    if title != "Options":
        lines += [".PP", rf"\fB{escape(title)}\fR"]
    for name, text in entries:
        words = name.split(" ", 1)
        rest = " " + escape(words[1]) if len(words) > 1 else ""
        lines += [".TP", rf"\fB{escape(words[0])}\fR{rest}", escape(text) or r"\&"]


def key_of(group):
    return group[0], tuple(group[1])


def man_page(helps, version):
    root = helps[0]
    uses = {}
    for verb in helps[1:]:
        for group in verb.groups:
            uses.setdefault(key_of(group), []).append(" ".join(verb.verb))
    shared = {key for key, verbs in uses.items() if len(verbs) > 1 and key[0] != "Options"}
    lines = [r".\" Made by tools/make_man.py from the help of the program.",
             f'.TH HGA 1 "" "hga {version}" "User Commands"', ".SH NAME",
             r"hga \- " + escape(root.about[0].rstrip(".").replace("Runs", "run", 1)),
             ".SH SYNOPSIS"]
    for verb in helps[1:]:
        if not verb.verbs:
            words = verb.usage.split()
            name = [word for word in words if word == "hga" or word in verb.verb]
            rest = [word for word in words if word not in name]
            lines += [r"\fB" + escape(" ".join(name)) + r"\fR " + escape(" ".join(rest)), ".br"]
    lines[-1:] = [".SH DESCRIPTION"]
    lines += [escape(line) for line in root.about + root.footer]
    lines.append(".SH OPTIONS")
    for group in root.groups:
        write_group(lines, group)
    lines.append(".SH VERBS")
    for verb in helps[1:]:
        lines += [f'.SS "hga {escape(" ".join(verb.verb))}"', *map(escape, filter(None, verb.about))]
        elsewhere = []
        for group in verb.groups:
            if key_of(group) in shared:
                elsewhere.append(group[0])
            elif any(name != "-h,--help" and name != "--help-all" for name, _ in group[1]):
                write_group(lines, (group[0], [entry for entry in group[1]
                                               if entry not in root.groups[0][1][:2]]))
        if elsewhere:
            lines += [".PP", "Below: " + "; ".join(map(escape, elsewhere)) + "."]
    lines.append(".SH OPTIONS OF SEVERAL VERBS")
    for key in uses:
        if key in shared:
            write_group(lines, key)
            lines += [".PP", "For: " + ", ".join(map(escape, uses[key])) + "."]
    return "\n".join(lines) + "\n"


def main():
    program, out = sys.argv[1:]
    helps = read_all(os.path.abspath(program))
    if len(helps) < 2 or not all(verb.usage for verb in helps):
        sys.exit(f"{program}: its help has no verbs or no usage line")
    version = subprocess.run([program, "--version"], capture_output=True, text=True,
                             check=True).stdout.split()
    number = next(word for word in version if re.match(r"v?\d+\.\d+", word))
    pathlib.Path(out).write_text(man_page(helps, number), encoding="utf-8")


if __name__ == "__main__":
    main()
