# SPDX-License-Identifier: Apache-2.0
"""Broken safetensors files for make_malformed.py: length field, JSON, entries, ranges, contents."""
import json
import os
import struct

import checkpoint_writer as writer

NORM = "model.norm.weight"
FILE = "model.safetensors"
BAD_JSON = "not valid JSON"


def generate(corpus):
    length_field(corpus)
    cut_headers(corpus)
    json_text(corpus)
    metadata(corpus)
    entries(corpus)
    ranges(corpus)
    shapes(corpus)
    names(corpus)
    wrong_models(corpus)
    values(corpus)
    file_kinds(corpus)
    legal(corpus)


def length_field(corpus):
    for size in (0, 1, 7):
        folder = corpus.model(f"st-size-{size}", f"has {size} bytes, a safetensors file has")
        (folder / FILE).write_bytes(bytes(size))
    folder = corpus.model("st-eight-zero-bytes", "header length 0")
    (folder / FILE).write_bytes(bytes(8))
    header, _ = corpus.header()
    for name, length in (("2-to-64", 2**64 - 1), ("2-to-63", 2**63), ("zero", 0),
                         ("100000001", 100_000_001)):
        corpus.with_header(f"st-length-{name}", f"header length {length}", header, length=length)
    folder = corpus.with_header("st-length-over-limit-in-large-file", "header length 100000001",
                                header, length=100_000_001)
    os.truncate(folder / FILE, 200_000_000)
    folder = corpus.with_header("st-length-file-size-minus-7", "header length", header)
    size = (folder / FILE).stat().st_size
    with open(folder / FILE, "r+b") as out:
        out.write(struct.pack("<Q", size - 7))
    corpus.with_header("st-length-one-short", BAD_JSON, header,
                       length=len(json.dumps(header, separators=(",", ":"))) - 1)
    corpus.with_header("st-length-into-data", BAD_JSON, header,
                       length=len(json.dumps(header, separators=(",", ":"))) + 3)


def cut_headers(corpus):
    header, data = corpus.header()
    text = json.dumps(header, separators=(",", ":")).encode()
    for cut in (1, 2, 10, 27, 28, 35, 36, 43, 60, 61, 62, 70, 85, len(text) // 2, len(text) - 2):
        corpus.with_header(f"st-json-cut-{cut}", BAD_JSON, text[:cut])
    for cut in (9, 8 + len(text) // 2, 8 + len(text) - 1):
        folder = corpus.with_header(f"st-file-cut-{cut}", "header length", text)
        os.truncate(folder / FILE, cut)
    folder = corpus.with_header("st-file-cut-after-header", "is more than 0", text)
    os.truncate(folder / FILE, 8 + len(text))
    folder = corpus.with_header("st-file-cut-in-data", "is more than", text)
    os.truncate(folder / FILE, 8 + len(text) + len(data) // 2)


def json_text(corpus):
    header, _ = corpus.header()
    text = json.dumps(header, separators=(",", ":"))
    for name, bad in (("list", "[]"), ("null", "null"), ("string", '"x"'), ("number", "17"),
                      ("comma-only", "{,}"), ("trailing-comma", text[:-1] + ",}"),
                      ("missing-comma", text.replace("},", "}", 1)),
                      ("missing-colon", text.replace('":{', '"{', 1)),
                      ("single-quotes", text.replace('"', "'")), ("blank", "   "),
                      ("open-string", text[:-20] + '"'), ("comment", "/* x */" + text),
                      ("nan", text.replace('"shape":[', '"shape":[NaN,', 1)),
                      ("bad-escape", text.replace("model.norm", "model\\q.norm"))):
        fragment = "a JSON object is needed" if name in (
            "list", "null", "string", "number", "comment") else (
            "is needed" if name == "nan" else BAD_JSON)
        corpus.with_header(f"st-json-{name}", fragment, bad)
    corpus.with_header("st-json-second-object", "more text follows", text + "{}")
    corpus.with_header("st-json-text-after", BAD_JSON, text + " x")
    corpus.with_header("st-json-nul-padding", BAD_JSON, text.encode() + bytes(5))
    corpus.with_header("st-json-byte-order-mark", "a JSON object is needed", b"\xef\xbb\xbf" + text.encode())
    for name, bad in (("c0", b"\xc0\xaf"), ("surrogate", b"\xed\xa0\x80"), ("f5", b"\xf5"),
                      ("cut", b"\xe2\x82"), ("80", b"\x80")):
        corpus.with_header(f"st-utf8-{name}", BAD_JSON,
                           text.encode().replace(b"model.norm", b"model" + bad + b"norm"))
    corpus.with_header("st-million-brackets", "a JSON object is needed", "[" * 999_999 + "]")
    for depth in (129, 100_000):
        corpus.with_header(f"st-depth-{depth}", "nested too deep", text.replace(
            '"dtype"', '"extra":' + "[" * depth + "]" * depth + ',"dtype"', 1))
    corpus.with_header("st-depth-objects", "nested too deep", text.replace(
        '"dtype"', '"extra":' + '{"a":' * 500 + "1" + "}" * 500 + ',"dtype"', 1))
    for name, bad in (("comma", "[1,,2]"), ("null", "[null1]"), ("nul", "nul"), ("true", "[truex]"),
                      ("number", "1.2.3"), ("escape", '{"a":"\\q"}'), ("key", "{1:2}"),
                      ("open", "[1,2")):
        corpus.with_header(f"st-unknown-field-broken-{name}", BAD_JSON,
                           text.replace('"dtype"', f'"extra":{bad},"dtype"', 1))


def metadata(corpus):
    header, _ = corpus.header()
    text = json.dumps(header, separators=(",", ":"))
    for name, fragment, bad in (
            ("twice", "__metadata__ appears twice", '"__metadata__":{},"__metadata__":{},'),
            ("key-twice", "__metadata__ has \"a\" twice", '"__metadata__":{"a":"1","a":"1"},'),
            ("key-twice-escaped", "__metadata__ has \"a\" twice",
             '"__metadata__":{"a":"1","\\u0061":"1"},'),
            ("number", "a string is needed", '"__metadata__":{"a":1},'),
            ("list", "an object is needed", '"__metadata__":[],'),
            ("nested", "a string is needed", '"__metadata__":{"a":{"b":"c"}},')):
        corpus.with_header(f"st-metadata-{name}", fragment, "{" + bad + text[1:])


def entries(corpus):
    def entry(name, fragment, **changes):
        header, _ = corpus.header()
        for key, value in changes.items():
            if value is None:
                del header[NORM][key]
            else:
                header[NORM][key] = value
        corpus.with_header(f"st-entry-{name}", fragment, header)

    header, _ = corpus.header()
    begin, end = header[NORM]["data_offsets"]
    for key in ("dtype", "shape", "data_offsets"):
        entry(f"no-{key}", f"{key} is missing", **{key: None})
    entry("one-offset", "1 numbers, not 2", data_offsets=[begin])
    entry("three-offsets", "more than 2 numbers", data_offsets=[begin, end, end])
    entry("offsets-object", "a list is needed", data_offsets={"begin": begin})
    for name, bad in (("string", "64"), ("negative", -1), ("fraction", 64.0), ("true", True),
                      ("list", [64])):
        entry(f"dim-{name}", "a whole number from 0", shape=[bad])
        entry(f"offset-{name}", "a whole number from 0", data_offsets=[begin, bad])
    entry("dim-2-to-64", "a whole number from 0", shape=[2**64])
    entry("dim-2-to-63", "is more than 281474976710656", shape=[2**63])
    entry("offset-2-to-53", "is more than", data_offsets=[begin, 2**53 + 1])
    entry("offset-2-to-64", "a whole number from 0", data_offsets=[begin, 2**64])
    text = json.dumps(header, separators=(",", ":"))
    corpus.with_header("st-entry-dim-exponent", "a whole number from 0",
                       text.replace('"shape":[64]', '"shape":[64e0]'))
    corpus.with_header("st-entry-dim-leading-zero", "a whole number from 0",
                       text.replace('"shape":[64]', '"shape":[064]'))
    corpus.with_header("st-entry-shape-twice", "shape appears twice",
                       text.replace('"shape":[64]', '"shape":[64],"shape":[64]'))
    corpus.with_header("st-entry-dtype-twice", "dtype appears twice",
                       text.replace('"dtype":"BF16"', '"dtype":"BF16","d\\u0074ype":"BF16"', 1))
    corpus.with_header("st-entry-is-list", "an object is needed", header | {"x": []})
    corpus.with_header("st-entry-is-null", "an object is needed", header | {"x": None})
    for name, bad in (("lower", "f32"), ("unknown", "F33"), ("empty", ""), ("long", "F" * 5000)):
        entry(f"dtype-{name}", "unknown dtype", dtype=bad)
    entry("dtype-number", "dtype: a string is needed", dtype=16)
    entry("f4-half-byte", "not whole bytes", dtype="F4", shape=[3])


def ranges(corpus):
    def shift(name, fragment, change, data_change=0):
        header, data = corpus.header()
        change(header)
        data = data + bytes(data_change) if data_change >= 0 else data[:data_change]
        corpus.with_header(f"st-range-{name}", fragment, header, data)

    def set_range(key, begin=0, end=0):
        def change(header):
            old = header[key]["data_offsets"]
            header[key]["data_offsets"] = [old[0] + begin, old[1] + end]
        return change

    def all_by(amount):
        def change(header):
            for row in header.values():
                row["data_offsets"] = [value + amount for value in row["data_offsets"]]
        return change

    def hole(header):
        moved = list(header.values())[3:]
        for row in moved:
            row["data_offsets"] = [value + 2 for value in row["data_offsets"]]

    first = "model.embed_tokens.weight"
    shift("reversed", "begin", lambda h: h[NORM]["data_offsets"].reverse())
    shift("one-element-short", "but shape", set_range(NORM, end=-2))
    shift("one-element-long", "but shape", set_range(first, end=2))
    shift("hole", "a hole", hole, 2)
    shift("overlap", "an overlap", set_range("model.layers.0.self_attn.q_norm.weight", -2, -2))
    shift("starts-at-2", "a hole", all_by(2), 2)
    shift("tail-of-1", "but the file has", lambda h: None, 1)
    shift("tail-of-1-mb", "but the file has", lambda h: None, 1 << 20)
    shift("short-of-1", "is more than", lambda h: None, -1)
    shift("tensor-removed", "a hole", lambda h: h.pop("model.layers.0.mlp.up_proj.weight"))
    many = {f"t{i}": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]} for i in range(100_000)}
    corpus.with_header("st-range-shared-by-100000", "an overlap", many, bytes(4),
                       json_bytes=6_000_000)
    header, data = corpus.header()
    row = json.dumps(header[NORM], separators=(",", ":"))
    text = json.dumps(header, separators=(",", ":"))
    corpus.with_header("st-name-twice-same-range", "appears twice",
                       text[:-1] + f',"{NORM}":{row.replace("BF16", "F16")}}}')
    corpus.with_header("st-name-twice-escaped", "appears twice",
                       text[:-1] + f',"model.norm.weigh\\u0074":{row}}}')
    size = len(data)
    corpus.with_header("st-name-twice-two-ranges", "appears twice", text[:-1] +
                       f',"{NORM}":{{"dtype":"BF16","shape":[64],"data_offsets":[{size},{size + 128}]}}}}',
                       data + bytes(128))


def shapes(corpus):
    def extra(name, fragment, shape, dtype="U8", size=0):
        header, data = corpus.header()
        header["x"] = {"dtype": dtype, "shape": shape,
                       "data_offsets": [len(data), len(data) + size]}
        corpus.with_header(f"st-shape-{name}", fragment, header, data + bytes(size))

    extra("wraps-to-0", "elements", [2**32, 2**32])
    extra("wraps-with-zero", "elements", [2**40, 2**40, 0])
    extra("wraps-to-4", "is more than", [2, 2**63 + 2], size=4)
    extra("minus-2", "is more than", [2, 2**64 - 2])
    extra("2-to-63-minus-1", "is more than", [2, 2**63 - 1])
    extra("zero-and-huge", "is more than", [0, 2**63, 2])
    extra("nine-dimensions", "more than 8 dimensions", [1] * 9, size=1)
    extra("10000-dimensions", "more than 8 dimensions", [1] * 10_000, size=1)
    extra("2-to-48-plus-1", "is more than", [2**48 + 1])
    extra("huge-f64", "but shape", [2**45, 2**8], "F64")


def names(corpus):
    def extra(name, fragment, text):
        header, data = corpus.header()
        header[text] = {"dtype": "U8", "shape": [0], "data_offsets": [len(data), len(data)]}
        corpus.with_header(f"st-name-{name}", fragment, header)

    extra("empty", "has 0 bytes", "")
    extra("one-mb", "has 1048576 bytes", "n" * (1 << 20))
    extra("nul", "control character", "a\0b")
    extra("newline", "control character", "a\nerror: fake")
    extra("ansi", "control character", "\x1b[31mred")
    extra("dots", "is no part of", "..")
    extra("c1-control", "is no part of", "a\x9b31m")
    header, data = corpus.header()
    text = json.dumps(header, separators=(",", ":"))
    corpus.with_header("st-name-lone-surrogate", BAD_JSON, text[:-1] +
                       f',"\\ud800":{{"dtype":"U8","shape":[0],"data_offsets":[{len(data)},{len(data)}]}}}}')


def wrong_models(corpus):
    """Well-formed files that are not the model config.json describes."""
    def changed(name, fragment, change, config=None, **keys):
        tensors = {t[0]: t for t in corpus.tensors(config or corpus.config)}
        change(tensors)
        corpus.model(f"st-model-{name}", fragment, config, list(tensors.values()), **keys)

    def put(name, dtype, shape):
        data = bytes(writer.element_count(shape) * writer.DTYPE_BYTES[dtype])
        return lambda tensors: tensors.update({name: (name, dtype, shape, data)})

    q_proj, layer = "model.layers.0.self_attn.q_proj.weight", "model.layers.0."
    changed("scalar-norm", "has shape []", put(NORM, "BF16", []))
    changed("long-norm", "has shape [4096]", put(NORM, "BF16", [4096]))
    changed("norm-as-matrix", "has shape [1, 64]", put(NORM, "BF16", [1, 64]))
    changed("transposed", "has shape [64, 320]",
            put("model.embed_tokens.weight", "BF16", [64, 320]))
    changed("fewer-embedding-rows", "has shape [300, 64]",
            put("model.embed_tokens.weight", "BF16", [300, 64]))
    changed("more-embedding-rows", "has shape [321, 64]",
            put("model.embed_tokens.weight", "BF16", [321, 64]))
    for dtype in ("F64", "U16", "C64", "U8", "BOOL", "I64"):
        changed(f"weight-{dtype.lower()}", f"has dtype {dtype}", put(q_proj, dtype, [64, 64]))
    changed("norm-fp8", "has dtype F8_E4M3", put(NORM, "F8_E4M3", [64]))
    changed("layer-missing", "is missing", lambda t: [
        t.pop(name) for name in list(t) if name.startswith(layer)])
    changed("one-missing", 'q_norm.weight" is missing',
            lambda t: t.pop(layer + "self_attn.q_norm.weight"))
    changed("bias-present", "is no part of",
            put(layer + "self_attn.q_proj.bias", "BF16", [64]))
    changed("extra-layer", "is no part of",
            put("model.layers.1.input_layernorm.weight", "BF16", [64]))
    changed("fp8-without-config", "has no quantization_config",
            put(q_proj, "F8_E4M3", [64, 64]))
    fp8 = corpus.fp8_config
    changed("scale-missing", 'weight_scale_inv" is missing',
            lambda t: t.pop(q_proj + "_scale_inv"), fp8)
    changed("scale-shape", "has shape [2, 1]", put(q_proj + "_scale_inv", "F32", [2, 1]), fp8)
    changed("scale-scalar", "has shape []", put(q_proj + "_scale_inv", "F32", []), fp8)
    changed("scale-dtype", "a scale is F32, F16 or BF16",
            put(q_proj + "_scale_inv", "F64", [1, 1]), fp8)
    changed("scale-without-fp8", "is no part of", put(q_proj + "_scale_inv", "F32", [1, 1]))
    changed("activation-scale", "is no part of",
            put(layer + "self_attn.q_proj.input_scale", "F32", []), fp8)
    moe = corpus.moe_config
    expert = "model.layers.1.mlp.experts.3."
    changed("expert-missing", "is missing", lambda t: t.pop(expert + "up_proj.weight"), moe)
    changed("expert-too-many", "is no part of",
            put("model.layers.1.mlp.experts.4.up_proj.weight", "BF16", [32, 64]), moe)
    changed("expert-u8-too-long", "has shape", put(expert + "up_proj.weight", "U8", [64, 64]), moe)

    def fuse(tensors):
        for name in [name for name in tensors if ".experts." in name]:
            del tensors[name]
        put("model.layers.0.mlp.experts.gate_up_proj", "BF16", [4, 64, 64])(tensors)
    changed("experts-fused", "stored fused", fuse, moe)


def values(corpus):
    """Sound headers over values no weight may have; needs a look at all data."""
    def poke(name, fragment, tensor, data, config=None, dtype=None):
        rows = corpus.tensors(config or corpus.config)
        at = next(i for i, row in enumerate(rows) if row[0] == tensor)
        old = rows[at]
        kind = dtype or old[1]
        whole = bytes(writer.element_count(old[2]) * writer.DTYPE_BYTES[kind])
        rows[at] = (old[0], kind, old[2], whole[:-len(data)] + data)
        corpus.model(f"st-value-{name}", fragment, config, rows, check=True)

    weight = "model.layers.0.mlp.up_proj.weight"
    poke("norm-nan", "element 63 of 64 is nan", NORM, b"\xc0\x7f")
    poke("norm-infinity", "element 63 of 64 is inf", NORM, b"\x80\x7f")
    poke("weight-minus-infinity", "element 4095 of 4096 is -inf", weight, b"\x80\xff")
    poke("f16-nan", "is nan", weight, b"\x01\x7e", dtype="F16")
    poke("f32-infinity", "is inf", weight, struct.pack("<f", float("inf")), dtype="F32")
    fp8 = corpus.fp8_config
    poke("fp8-nan", "is nan", weight, b"\x7f", fp8)
    poke("fp8-minus-nan", "is nan", weight, b"\xff", fp8)
    for name, value, text in (("zero", 0.0, "is 0,"), ("negative", -1.0, "is -1,"),
                              ("nan", float("nan"), "is nan,"), ("infinite", float("inf"), "is inf,")):
        poke(f"scale-{name}", text, weight + "_scale_inv", struct.pack("<f", value), fp8)


def file_kinds(corpus):
    def replaced(name, fragment, make):
        folder = corpus.model(f"st-file-{name}", fragment)
        (folder / FILE).unlink()
        make(folder / FILE)

    replaced("pipe", "is a pipe", os.mkfifo)
    replaced("directory", "is a directory", os.mkdir)
    replaced("link-to-zero", "a symbolic link to", lambda p: os.symlink("/dev/zero", p))
    replaced("link-out", "a symbolic link to", lambda p: os.symlink("/etc/passwd", p))
    replaced("link-dangling", "No such file", lambda p: os.symlink("nothing", p))
    replaced("link-to-itself", "symbolic links", lambda p: os.symlink(FILE, p))
    if os.geteuid() != 0:
        folder = corpus.model("st-file-unreadable", "Permission denied")
        (folder / FILE).chmod(0)
    header, data = corpus.header()
    folder = corpus.with_header("st-file-10-tb", "but the file has", header)
    os.truncate(folder / FILE, 10 * 10**12)
    header["x"] = {"dtype": "U8", "shape": [2**40], "data_offsets": [len(data), len(data) + 2**40]}
    folder = corpus.with_header("st-file-1-tb-tensor", "is no part of", header)
    text = json.dumps(header, separators=(",", ":"))
    os.truncate(folder / FILE, 8 + len(text) + len(data) + 2**40)


def legal(corpus):
    """Odd but legal files, which must load."""
    header, data = corpus.header()
    text = json.dumps(header, separators=(",", ":"))
    summary = "qwen3 bf16: 1 layers"
    corpus.with_header("st-legal-blanks-around", summary, "  \n\t" + text + "   ", good=True)
    corpus.with_header("st-legal-spaced", summary, json.dumps(header, indent=3), good=True)
    corpus.with_header("st-legal-escaped-name", summary, text.replace("model.norm", "m\\u006fdel.norm"),
                       good=True)
    corpus.with_header("st-legal-unknown-field", summary, text.replace(
        '"dtype"', '"extra":{"a":[1,-2.5e3,null,true,"x"]},"dtype"', 1), good=True)
    corpus.with_header("st-legal-odd-address", summary, text + " " * ((1 - len(text)) % 8),
                       good=True, check=True)
    corpus.with_header("st-legal-reversed-order", summary,
                       dict(reversed(list(header.items()))), good=True)
    empty = '":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    big = "{" + ",".join(f'"t{i:07}{empty}' for i in range(1_000_000)) + "}"
    corpus.with_header("st-million-empty-tensors", "is missing", big, b"", json_bytes=len(big))
    big = "{" + ",".join(f'"{i:x}{empty}' for i in range(2**20 + 1)) + "}"
    corpus.with_header("st-too-many-tensors", "more than 1048576 tensors", big, b"",
                       json_bytes=len(big))
