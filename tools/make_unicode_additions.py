#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Asks two implementations about every Unicode scalar value and writes where they differ.

make_unicode_additions.py regex > src/model/tokenizer_unicode.inc
    characters whose general category the regular expressions of Hugging Face `tokenizers` know and
    Debian 12's PCRE2 does not (Unicode 16 against 14)
make_unicode_additions.py nfc > src/model/tokenizer_nfc.inc
    characters that Debian 12's utf8proc normalises (Unicode 15) and `tokenizers` leaves alone
    (its tables are of Unicode 9)
"""
import ctypes
import sys

from tokenizers import Regex, normalizers, pre_tokenizers

CATEGORIES = ("Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So "
              "Zs Zl Zp Cc Cf Co Cn").split()
SCALARS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
TEXT = "".join(map(chr, SCALARS))


def oniguruma():
    """{code point: category} as the tokenizers package sees it."""
    found = {}
    for name in CATEGORIES:
        cutter = pre_tokenizers.Split(Regex(r"\p{%s}" % name), "removed")
        left = {ord(c) for piece, _ in cutter.pre_tokenize_str(TEXT) for c in piece}
        found.update({c: name for c in SCALARS if c not in left})
    return found


def pcre2():
    """{code point: category} as the installed libpcre2-8 sees it."""
    lib = ctypes.CDLL("libpcre2-8.so.0")
    for name in ("compile", "match_data_create", "get_ovector_pointer"):
        getattr(lib, f"pcre2_{name}_8").restype = ctypes.c_void_p
    lib.pcre2_get_ovector_pointer_8.argtypes = [ctypes.c_void_p]
    lib.pcre2_match_8.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t,
                                  ctypes.c_size_t, ctypes.c_uint32, ctypes.c_void_p,
                                  ctypes.c_void_p]
    utf, ucp, no_utf_check = 0x00080000, 0x00020000, 0x40000000
    subject = TEXT.encode()
    found = {}
    for name in CATEGORIES:
        pattern = (r"\p{%s}+" % name).encode()
        error, offset = ctypes.c_int(), ctypes.c_size_t()
        code = ctypes.c_void_p(lib.pcre2_compile_8(pattern, ctypes.c_size_t(len(pattern)),
                                                   utf | ucp, ctypes.byref(error),
                                                   ctypes.byref(offset), None))
        data = ctypes.c_void_p(lib.pcre2_match_data_create_8(1, None))
        ends = ctypes.cast(lib.pcre2_get_ovector_pointer_8(data), ctypes.POINTER(ctypes.c_size_t))
        at = 0
        while lib.pcre2_match_8(code, subject, len(subject), at, no_utf_check, data, None) >= 0:
            found.update({ord(c): name for c in subject[ends[0]:ends[1]].decode()})
            at = ends[1]
    return found


def category_additions():
    theirs, ours = oniguruma(), pcre2()
    return [(c, theirs[c]) for c in SCALARS
            if theirs[c] != ours[c] and not theirs[c].startswith("C")]


class Property(ctypes.Structure):
    """The beginning of utf8proc_property_t."""
    _fields_ = [("category", ctypes.c_int16), ("combining_class", ctypes.c_int16)]


def left_alone():
    """Marks that do not change places, and the parts of pairs that do not compose."""
    lib = ctypes.CDLL("libutf8proc.so.2")
    lib.utf8proc_get_property.restype = ctypes.POINTER(Property)
    lib.utf8proc_NFD.restype = ctypes.c_char_p
    nfc = normalizers.NFC()
    found = set()
    for c in SCALARS:
        combining = lib.utf8proc_get_property(c).contents.combining_class
        # U+0487 has class 230, U+0327 has 202: one of the two must change places with the mark.
        if 0 < combining < 230 and nfc.normalize_str("1\u0487" + chr(c))[1] != chr(c):
            found.add(c)
        if combining >= 230 and not nfc.normalize_str("1" + chr(c) + "\u0327").startswith("1\u0327"):
            found.add(c)
        parts = lib.utf8proc_NFD(chr(c).encode()).decode() if c else ""
        if len(parts) > 1 and nfc.normalize_str(chr(c)) == chr(c) != nfc.normalize_str(parts):
            found.update((c, ord(parts[-1])))
    return [(c, "") for c in sorted(found)]


def main():
    differences = {"regex": category_additions, "nfc": left_alone}[sys.argv[1]]()
    ranges = []
    for c, name in differences:
        if ranges and ranges[-1][1] == c - 1 and ranges[-1][2] == name:
            ranges[-1][1] = c
        else:
            ranges.append([c, c, name])
    print("// SPDX-License-Identifier: Apache-2.0")
    print(f"// Written by `tools/make_unicode_additions.py {sys.argv[1]}`: {{first, last, category}}.")
    print("// clang-format off")
    for first, last, name in ranges:
        print(f"{{0x{first:05X}, 0x{last:05X}, \"{name}\"}},")
    print("// clang-format on")
    print(f"{len(ranges)} ranges, {len(differences)} characters", file=sys.stderr)


if __name__ == "__main__":
    main()
