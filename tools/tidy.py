#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the rules of the house that no compiler checks; prints findings, exits 1 if there are any.

    tools/tidy.py [--root DIR] [--list]      --list: every rule with its meaning

Rules that a file may exceed for a stated reason are listed in tools/tidy_ratchet.json with the
figure reached; the figure may only fall.
"""
import argparse
import collections
import fnmatch
import json
import pathlib
import re
import subprocess
import sys

FILE_LINES = 600
FUNCTION_LINES = 70
RATCHET = "tools/tidy_ratchet.json"

# A room may include what stands in its set (docs/ARCHITECTURE.md); "include" is include/hga.
ROOMS = {
    "include": set(),
    "base": {"include"},
    "spec": {"base", "include"},
    "reference": {"backend", "spec", "base", "include"},
    "backend": {"spec", "base", "include"},
    "cpu": {"backend", "spec", "base", "include"},
    "cuda": {"backend", "spec", "base", "include"},
    "store": {"backend", "spec", "base", "include"},
    "attention": {"store", "backend", "spec", "base", "include"},
    "model": {"attention", "backend", "spec", "base", "include"},
    "engine": {"model", "attention", "backend", "spec", "base", "include"},
    "apps": {"include"},
    "examples": {"include"},
    "python": {"include"},
}
# A backend's factory is the one header of it that another room sees: who fills the registry.
FACTORIES = {"cpu/cpu_backend.h": "engine", "cuda/cuda_backend.h": "engine"}
SRC_ROOMS = [room for room in ROOMS if room not in ("include", "apps", "examples", "python")]

# Headers of outside libraries, and who may include them (rooms absent here may include none).
LIBRARIES = {
    "highway": (r"hwy/", {"cpu"}),
    "openblas": (r"cblas\.h|openblas", {"cpu", "apps"}),  # apps: `bench` measures a roof with it
    "tbb": (r"tbb/|oneapi/", {"base", "cpu", "attention", "model", "engine"}),
    "cuda": (r"cuda|cub/|cutlass/", {"cuda"}),
    "simdjson": (r"simdjson", {"model"}),
    "nlohmann-json": (r"nlohmann/", {"model", "engine", "apps"}),
    "pcre2": (r"pcre2", {"model"}),
    "utf8proc": (r"utf8proc", {"model"}),
    "fmt": (r"fmt/", set(SRC_ROOMS) | {"apps"}),
    "xxhash": (r"xxhash", {"base", "store", "model"}),
    "liburing": (r"liburing", {"store"}),
    "openssl": (r"openssl/", {"store", "model", "apps"}),
    "cli11": (r"CLI/", {"apps"}),
    "spdlog": (r"spdlog/", {"apps"}),
    "boost": (r"boost/", {"apps"}),
    "prometheus-cpp": (r"prometheus/", {"apps"}),
    "editline": (r"histedit|editline", {"apps"}),
}

# (name, pattern, where it is banned, where it is allowed all the same, what to do instead)
BANNED = [
    ("std-regex", r"\bstd::(?:w)?regex|#\s*include\s*<regex>", "*", (),
     "backtracks without bound; parse by hand or use PCRE2"),
    ("printing", r"(?<![\w.>])(?:std::)?(?:v?f?printf|puts|putchar|fputs|perror)\s*\("
     r"|\bstd::(?:cout|cerr|clog)\b|\bfmt::print\s*\(", "src/*", ("src/base/check.*",),
     "the library returns a Status; applications print"),
    ("ending-the-process",
     r"(?<![\w.>])(?:std::)?(?:exit|_exit|_Exit|quick_exit|abort|terminate)\s*\(",
     "src/*", ("src/base/check.*",), "return a Status, or HGA_CHECK a precondition"),
    ("rand", r"(?<![\w.>:])(?:std::)?s?rand\s*\(", "*", (), "use a seeded generator of our own"),
    ("mmap-of-weights", r"(?<![\w.>])(?:::)?mmap\s*\(", "src/model/*", (),
     "a cut or changing file would end the process; read it"),
    ("unbounded-string-call", r"(?<![\w.>])(?:std::)?(?:strcpy|strcat|sprintf|gets|strtok)\s*\(",
     "*", (), "writes past its buffer or keeps hidden state"),
    ("unfinished-work", r"\b(?:TODO|FIXME|XXX)\b", "*", (), "finish it or open an issue"),
]

CXX = (".cc", ".h", ".cu", ".cuh")
TEXT = CXX + (".py", ".sh", ".md", ".txt", ".cmake", ".json", ".yml", ".yaml", ".in", "")
HASH_COMMENT = (".py", ".sh", ".yml", ".yaml")
# Written so that this file does not find itself.
OUTSIDE = re.compile(r"(?<![\w.\-])/wor" + r"k(?:/|\b)|(?<![\w\-])shar" + r"ed/")

Finding = collections.namedtuple("Finding", "path line rule message")

RULES = {
    "arrow": "a room includes only the rooms below it",
    "library": "an outside library is included only by the rooms that own it",
    "file-length": f"C++ and Python files have at most {FILE_LINES} lines",
    "function-length": f"C++ functions have at most {FUNCTION_LINES} lines",
    "ratchet": f"entries of {RATCHET} are needed and not larger than the figure reached",
    "banned": "calls that are not allowed: " + ", ".join(entry[0] for entry in BANNED),
    "first-lines": "the SPDX line, then a comment that says why the file exists",
    "orphan-header": "every header is included by some file",
    "orphan-source": "every source file is named or globbed by a CMake file",
    "orphan-data": "every data file under tests/ is named by a test or a tool",
    "outside-path": "no path outside the repository",
}


class Tree:
    """The files under version control (or, without git, all but build products), read once."""

    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.paths = sorted(self._list())
        self._text = {}

    def _list(self):
        git = subprocess.run(
            ["git", "-C", str(self.root), "ls-files", "-z", "--cached", "--others",
             "--exclude-standard"], capture_output=True, text=True, check=False)
        if git.returncode == 0 and (self.root / ".git").exists():
            names = [name for name in git.stdout.split("\0") if name]
        else:
            names = [str(path.relative_to(self.root)) for path in self.root.rglob("*")
                     if path.is_file()]
            names = [name for name in names if not re.match(r"build|\.venv|\.git/|out/", name)]
        return [name for name in names if (self.root / name).is_file()]

    def text(self, path):
        if path not in self._text:
            self._text[path] = (self.root / path).read_text(encoding="utf-8", errors="replace")
        return self._text[path]

    def with_suffix(self, *suffixes):
        return [path for path in self.paths if pathlib.PurePosixPath(path).suffix in suffixes]


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def blank(match):
    """Replaces text by spaces, keeping newlines, so that offsets and lines stay."""
    return re.sub(r"[^\n]", " ", match.group(0))


COMMENT_OR_LITERAL = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"(?P<tag>[^\s()\\]{0,16})\(.*?\)(?P=tag)"'
    r'|"(?:\\.|[^"\\\n])*"|(?<![0-9a-fA-F])\'(?:\\.|[^\'\\\n])+\'', re.S)


def code_only(text):
    """C++ with comments, string and character literals blanked."""
    return COMMENT_OR_LITERAL.sub(blank, text)


def room_of(path):
    parts = path.split("/")
    if parts[0] == "src":
        return parts[1] if len(parts) > 2 else None
    if parts[0] in ("include", "apps", "examples", "python"):
        return parts[0]
    return None


INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*[<"]([^>"]+)[>"]', re.M)


def target_room(path, name, tree):
    """The room an #include line points to; None for the standard and outside libraries."""
    if name.startswith("hga/"):
        return "include"
    first = name.split("/")[0]
    if "/" in name and first in SRC_ROOMS:
        return first
    beside = str(pathlib.PurePosixPath(path).parent / name)
    return room_of(beside) if beside in tree.paths else None


def check_arrows(tree):
    for path in tree.with_suffix(*CXX):
        room = room_of(path)
        if path.startswith("src/") and room not in ROOMS:
            yield Finding(path, 1, "arrow", f"'{room}' is no room; rooms: {', '.join(SRC_ROOMS)}")
            continue
        if room is None:
            continue
        for match in INCLUDE.finditer(tree.text(path)):
            name = match.group(1)
            line = line_of(tree.text(path), match.start())
            target = target_room(path, name, tree)
            if FACTORIES.get(name) == room:
                continue
            if target is not None and target != room and target not in ROOMS[room]:
                allowed = ", ".join(sorted(ROOMS[room])) or "nothing of ours"
                yield Finding(path, line, "arrow",
                              f"{room} -> {target} by \"{name}\"; {room} may include {allowed}")
            if target is None:
                yield from check_library(path, line, room, name)


def check_library(path, line, room, name):
    for library, (pattern, rooms) in LIBRARIES.items():
        if re.match(pattern, name) and room not in rooms:
            yield Finding(path, line, "library",
                          f"<{name}> ({library}) belongs to: {', '.join(sorted(rooms))}")


FUNCTION_TAIL = re.compile(
    r"\)\s*(?:const|noexcept(?:\([^()]*\))?|override|final|mutable|&&?|->\s*[\w:<>,\s*&\[\]]+"
    r"|requires\s.*|HWY_\w+|\s)*$", re.S)
CONSTRUCTOR_TAIL = re.compile(r"\)\s*(?:noexcept\s*)?:\s*[^:].*$", re.S)
MEMBER_INITIALISER = re.compile(r"\)\s*(?:noexcept\s*)?:\s*(?!:).*[\w>]\s*$", re.S)
NAME_BEFORE = re.compile(r"([~\w:]+|operator[^\w\s]+)\s*\($")


def functions(code):
    """Yields (name, first line, number of lines) of every function body in comment-free C++.

    Lambdas and local classes count as part of the function around them.
    """
    code = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", blank, code, flags=re.M)
    stack = []  # what each open brace is: "scope", "init" or a function's (name, start)
    head = 0    # where the text that could introduce a brace begins
    inside = 0  # open function bodies
    for match in re.finditer(r"[{};]", code):
        symbol, at = match.group(0), match.start()
        if symbol == "{":
            before = code[head:at]
            if inside:
                stack.append("scope")
            elif MEMBER_INITIALISER.search(before):
                stack.append("init")
                continue
            elif FUNCTION_TAIL.search(before) or CONSTRUCTOR_TAIL.search(before):
                start = head + len(before) - len(before.lstrip())
                stack.append((function_name(before), start))
                inside += 1
            else:
                stack.append("scope")
            head = at + 1
        elif symbol == "}":
            kind = stack.pop() if stack else "scope"
            if kind == "init":
                continue
            if isinstance(kind, tuple):
                inside -= 1
                first = line_of(code, kind[1])
                yield kind[0], first, line_of(code, at) - first + 1
            head = at + 1
        elif not (stack and stack[-1] == "init"):
            head = at + 1


def function_name(before):
    """The last name in front of the first parenthesis that closes the parameter list."""
    opening = before.find("(")
    while opening >= 0:
        match = NAME_BEFORE.search(before[:opening + 1])
        if match and not match.group(1).startswith(("HWY_", "__attribute__", "decltype")):
            return match.group(1)
        opening = before.find("(", opening + 1)
    return "?"


def check_lengths(tree):
    ratchet = json.loads(tree.text(RATCHET)) if RATCHET in tree.paths else {}
    seen = {}
    for path in tree.with_suffix(*CXX, ".py"):
        lines = tree.text(path).count("\n")
        seen[path] = lines
        limit = max(FILE_LINES, ratchet.get(path, 0))
        if lines > limit:
            yield Finding(path, lines, "file-length", f"{lines} lines; at most {limit}")
    for path in tree.with_suffix(*CXX):
        for name, first, count in functions(code_only(tree.text(path))):
            key = f"{path}:{name}"
            seen[key] = max(count, seen.get(key, 0))
            limit = max(FUNCTION_LINES, ratchet.get(key, 0))
            if count > limit:
                yield Finding(path, first, "function-length",
                              f"{name} has {count} lines; at most {limit}")
    for key, figure in ratchet.items():
        reached = seen.get(key, 0)
        limit = FUNCTION_LINES if ":" in key else FILE_LINES
        if reached <= limit:
            yield Finding(RATCHET, 1, "ratchet", f"{key} is no longer needed: {reached} lines")
        elif reached < figure:
            yield Finding(RATCHET, 1, "ratchet", f"{key}: lower {figure} to {reached}")


def check_banned(tree):
    for path in tree.with_suffix(*CXX):
        text = tree.text(path)
        code = code_only(text)
        for name, pattern, where, allowed, advice in BANNED:
            if not fnmatch.fnmatch(path, where):
                continue
            if any(fnmatch.fnmatch(path, exception) for exception in allowed):
                continue
            haystack = text if name == "unfinished-work" else code
            for match in re.finditer(pattern, haystack):
                yield Finding(path, line_of(text, match.start()), "banned",
                              f"{name}: '{match.group(0).strip()}' ({advice})")


def check_first_lines(tree):
    for path in tree.with_suffix(*CXX, *HASH_COMMENT):
        mark = "#" if path.endswith(HASH_COMMENT) else "//"
        lines = tree.text(path).split("\n")
        if lines and lines[0].startswith("#!"):
            lines = lines[1:]
        if not lines or lines[0] != f"{mark} SPDX-License-Identifier: Apache-2.0":
            yield Finding(path, 1, "first-lines",
                          f"expected '{mark} SPDX-License-Identifier: Apache-2.0'")
            continue
        purpose = lines[1] if len(lines) > 1 else ""
        said = purpose.startswith(mark + " ") or path.endswith(".py") and purpose.startswith('"""')
        if not said or len(purpose.strip("#/\" ")) < 10:
            yield Finding(path, 2, "first-lines", "the second line says why the file exists")


def check_orphan_headers(tree):
    included = set()
    for path in tree.with_suffix(*CXX):
        for match in INCLUDE.finditer(tree.text(path)):
            included.add(match.group(1))
            beside = pathlib.PurePosixPath(path).parent / match.group(1)
            included.add(str(beside))
        # Highway includes a source once per instruction set through this macro.
        for match in re.finditer(r'HWY_TARGET_INCLUDE\s+"([^"]+)"', tree.text(path)):
            included.add(match.group(1))
    for path in tree.with_suffix(".h", ".cuh"):
        names = {path, path.removeprefix("src/"), path.removeprefix("include/"),
                 path.removeprefix("tests/tsan/")}
        if not names & included:
            yield Finding(path, 1, "orphan-header", "no file includes it")


def cmake_patterns(tree):
    """What CMake files name: globs with variables widened, relative to the repository."""
    patterns = set()
    for path in tree.paths:
        if not (path.endswith("CMakeLists.txt") or path.endswith(".cmake")):
            continue
        folder = str(pathlib.PurePosixPath(path).parent)
        for word in re.findall(r"[^\s()\";]+\.(?:cc|cu)\b", tree.text(path)):
            word = word.replace("${CMAKE_SOURCE_DIR}/", "/")
            word = word.replace("${CMAKE_CURRENT_SOURCE_DIR}/", "")
            word = re.sub(r"\$\{[^}]*\}", "*", word)
            full = word[1:] if word.startswith("/") else f"{folder}/{word}".removeprefix("./")
            patterns.add(full)
    return patterns


def check_orphan_sources(tree):
    # A star stands for one path component, as in CMake.
    matchers = [re.compile("[^/]*".join(map(re.escape, pattern.split("*"))) + r"\Z")
                for pattern in cmake_patterns(tree)]
    for path in tree.with_suffix(".cc", ".cu"):
        if not any(matcher.match(path) for matcher in matchers):
            if not path.startswith("tests/tidy/"):  # samples that must not compile into anything
                yield Finding(path, 1, "orphan-source", "no CMake file names or globs it")


def check_orphan_data(tree):
    code = [path for path in tree.paths
            if path.startswith(("tests/", "tools/", "cmake/", ".ci/"))
            and pathlib.PurePosixPath(path).suffix in CXX + (".py", ".sh", ".cmake", ".txt", "")]
    text = "\n".join(tree.text(path) for path in code)
    for path in tree.paths:
        pure = pathlib.PurePosixPath(path)
        if not path.startswith("tests/") or pure.suffix in CXX + (".py", ".supp", ".md"):
            continue
        if pure.name == "CMakeLists.txt":
            continue
        # Named itself, or in a folder (below tests/<kind>/) that a test walks through.
        folders = [f"{parent.parent.name}/{parent.name}" for parent in pure.parents
                   if len(parent.parts) > 2]
        if pure.name not in text and not any(folder in text for folder in folders):
            yield Finding(path, 1, "orphan-data", "no test or tool opens it")


def check_outside_paths(tree):
    for path in tree.paths:
        if pathlib.PurePosixPath(path).suffix not in TEXT or path.startswith("models/"):
            continue
        if path.startswith(("examples/text/", "LICENSE")):
            continue
        for match in OUTSIDE.finditer(tree.text(path)):
            yield Finding(path, line_of(tree.text(path), match.start()), "outside-path",
                          f"'{match.group(0)}' lies outside the repository")


CHECKS = [check_arrows, check_lengths, check_banned, check_first_lines, check_orphan_headers,
          check_orphan_sources, check_orphan_data, check_outside_paths]


def check(root):
    tree = Tree(root)
    return [finding for rule in CHECKS for finding in rule(tree)], tree


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    here = pathlib.Path(__file__).resolve().parent.parent
    parser.add_argument("--root", default=here, help="repository (default: this one)")
    parser.add_argument("--list", action="store_true", help="print the rules")
    options = parser.parse_args()
    if options.list:
        for rule, meaning in RULES.items():
            print(f"{rule:16} {meaning}")
        return 0
    findings, tree = check(options.root)
    for finding in findings:
        print(f"{finding.path}:{finding.line}: [{finding.rule}] {finding.message}")
    print(f"tidy: {len(findings)} findings in {len(tree.paths)} files, {len(RULES)} rules")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
