# SPDX-License-Identifier: Apache-2.0
"""Broken shard indexes, directories and Hugging Face caches for make_malformed.py."""
import json
import os
import shutil

import checkpoint_writer as writer

FILE = "model.safetensors"
INDEX = "model.safetensors.index.json"
NORM = "model.norm.weight"
EMBEDDING = "model.embed_tokens.weight"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def generate(corpus):
    shard_names(corpus)
    index_text(corpus)
    index_against_shards(corpus)
    directories(corpus)
    caches(corpus)


def sharded(corpus, name, fragment, **keys):
    """A sound model in two shards: (folder, index as a dict)."""
    folder = corpus.model(name, fragment, **keys)
    (folder / FILE).unlink()
    tensors = corpus.tensors(corpus.config)
    shards = [tensors[0::2], tensors[1::2]]
    for number, shard in enumerate(shards, 1):
        writer.write_safetensors(folder / writer.shard_name(number, 2), shard)
    writer.write_index(folder, shards)
    return folder, json.loads((folder / INDEX).read_text())


def write(folder, index):
    if not isinstance(index, (str, bytes)):
        index = json.dumps(index)
    (folder / INDEX).write_bytes(index.encode() if isinstance(index, str) else index)


def shard_names(corpus):
    bad = {"parent": "../x.safetensors", "absolute": "/etc/x.safetensors",
           "inner-parent": "a/../../b.safetensors", "folder": "sub/x.safetensors",
           "nul": "x\0.safetensors", "newline": "x\n.safetensors", "backslash": "..\\x.safetensors",
           "bin": "pytorch_model.bin", "no-ending": "x", "ending-only": ".safetensors", "empty": "",
           "dot": ".", "dots": "..", "long": "x" * 300 + ".safetensors",
           "ansi": "\x1b[2J.safetensors", "upper": "X.SAFETENSORS"}
    for name, shard in bad.items():
        folder, index = sharded(corpus, f"index-shard-{name}", "is not a plain file name that ends")
        index["weight_map"][NORM] = shard
        write(folder, index)
    for name, value in (("number", 3), ("list", ["x"]), ("null", None), ("true", True),
                        ("object", {"a": "b"})):
        folder, index = sharded(corpus, f"index-value-{name}", "a file name is needed")
        index["weight_map"][NORM] = value
        write(folder, index)
    folder, index = sharded(corpus, "index-shard-links-out", "a symbolic link to")
    index["weight_map"][NORM] = "link.safetensors"
    shutil.copy(folder / writer.shard_name(1, 2), corpus.out / "outside.safetensors")
    os.symlink("../outside.safetensors", folder / "link.safetensors")
    write(folder, index)
    folder, index = sharded(corpus, "index-too-many-files", "more than 512 files")
    index["weight_map"] |= {f"t{i}": f"s{i}.safetensors" for i in range(600)}
    write(folder, index)


def index_text(corpus):
    def text(name, fragment, change, good=False, **keys):
        folder, index = sharded(corpus, f"index-{name}", fragment, good=good, **keys)
        write(folder, change(index))

    def metadata(**values):
        return lambda index: index | {"metadata": values}

    text("empty-file", "empty", lambda i: "")
    text("list", "a JSON object is needed", lambda i: "[]")
    text("null", "a JSON object is needed", lambda i: "null")
    text("cut", "not valid JSON", lambda i: json.dumps(i)[:-30])
    text("cut-after-entry", "not valid JSON", lambda i: json.dumps(i)[:-1])
    text("two-objects", "more text follows", lambda i: json.dumps(i) + "{}")
    text("not-utf8", "not valid JSON", lambda i: json.dumps(i).encode().replace(b"norm", b"\xff"))
    text("empty-object", "weight_map is missing", lambda i: "{}")
    text("map-missing", "weight_map is missing", lambda i: {"metadata": {}})
    text("map-empty", "weight_map is empty", lambda i: {"weight_map": {}})
    text("map-list", "weight_map: an object is needed", lambda i: {"weight_map": [[NORM, "x"]]})
    text("map-string", "weight_map: an object is needed", lambda i: {"weight_map": "x"})
    text("map-null", "weight_map: an object is needed", lambda i: {"weight_map": None})
    text("map-twice", "weight_map appears twice",
         lambda i: json.dumps(i)[:-1] + ',"weight_map":{}}')
    text("name-twice", "twice", lambda i: json.dumps(i)[:-2] +
         f',"{NORM}":"model-00001-of-00002.safetensors"}}}}')
    text("name-twice-escaped", "twice", lambda i: json.dumps(i)[:-2] +
         ',"model.n\\u006frm.weight":"model-00001-of-00002.safetensors"}}')
    text("name-empty", "has 0 bytes", lambda i: {"weight_map": i["weight_map"] | {"": "x.safetensors"}})
    text("name-one-mb", "has 1048576 bytes",
         lambda i: {"weight_map": i["weight_map"] | {"n" * (1 << 20): "x.safetensors"}})
    text("metadata-list", "metadata: an object", lambda i: i | {"metadata": []})
    for name, value in (("negative", -1), ("string", "12"), ("fraction", 1.5), ("null", None),
                        ("huge", 2**70)):
        text(f"total-{name}", "metadata.total_size: a whole number", metadata(total_size=value))
    text("deep", "nested too deep", lambda i: json.dumps(i)[:-1] + ',"x":' + "[" * 200 + "]" * 200 + "}")
    summary = "qwen3 bf16: 1 layers"
    text("legal-total-stale", summary, metadata(total_size=17), good=True)
    text("legal-extra-key", summary, lambda i: i | {"other": [1, {"a": None}]}, good=True)
    text("legal-no-metadata", summary, lambda i: {"weight_map": i["weight_map"]}, good=True)
    size = 2**20 + 10
    names = ",".join(f'"t{i:x}":"a.safetensors"' for i in range(size))
    text("million-entries", "more than 1048576 tensors", lambda i: '{"weight_map":{' + names + "}}",
         json_bytes=len(names))
    folder, _ = sharded(corpus, "index-of-400-mb", "has 400000000 bytes, at most 100000000")
    os.truncate(folder / INDEX, 400_000_000)


def index_against_shards(corpus):
    first, second = writer.shard_name(1, 2), writer.shard_name(2, 2)
    folder, _ = sharded(corpus, "index-shard-missing", f"{second}\": No such file")
    (folder / second).unlink()
    folder, _ = sharded(corpus, "index-shard-of-no-bytes", "has 0 bytes")
    (folder / second).write_bytes(b"")
    folder, index = sharded(corpus, "index-tensor-in-no-shard", "it is in no file")
    index["weight_map"]["model.layers.9.x"] = first
    write(folder, index)
    folder, index = sharded(corpus, "index-tensor-in-other-shard", "but it is in")
    index["weight_map"] = {name: second if shard == first else first
                           for name, shard in index["weight_map"].items()}
    write(folder, index)
    folder, _ = sharded(corpus, "index-tensor-in-two-shards", "is in two files")
    shutil.copy(folder / first, folder / second)
    folder, index = sharded(corpus, "index-shard-not-listed", "is missing")
    index["weight_map"] = {n: s for n, s in index["weight_map"].items() if s == first}
    write(folder, index)
    folder, _ = sharded(corpus, "index-and-single-file", "holds both")
    writer.write_safetensors(folder / FILE, corpus.tensors(corpus.config))
    folder, _ = sharded(corpus, "index-is-directory", "is a directory")
    (folder / INDEX).unlink()
    (folder / INDEX).mkdir()
    folder, _ = sharded(corpus, "index-is-pipe", "is a pipe")
    (folder / INDEX).unlink()
    os.mkfifo(folder / INDEX)
    folder = corpus.model("index-legal-one-shard", "qwen3 bf16", good=True)
    write(folder, {"weight_map": {NORM: FILE}})


def directories(corpus):
    def only(name, fragment, *files):
        folder = corpus.model(f"dir-{name}", fragment)
        (folder / FILE).unlink()
        for file in files:
            (folder / file).write_bytes(b"\x80\x02}q\x00.")

    only("no-weights", "holds neither")
    only("pickle-only", "is a Python pickle", "pytorch_model.bin")
    only("pickle-shards", "is a Python pickle", "pytorch_model-00001-of-00002.bin", "x.bin.index.json")
    only("pt-only", "is a Python pickle", "consolidated.00.pth")
    only("gguf-only", '"x.gguf" is there, but is not read', "x.gguf")
    only("other-safetensors", '"adapter_model.safetensors" is there', "adapter_model.safetensors")
    folder = corpus.model("dir-no-config", 'config.json": No such file')
    (folder / "config.json").unlink()
    folder = corpus.add("dir-empty", 'config.json": No such file')
    assert folder.is_dir()
    corpus.add("dir-missing", "No such file", model="dir-missing/not/there")
    folder = corpus.model("dir-is-file", "is a file; name the directory",
                          model=f"dir-is-file/{FILE}")
    corpus.model("dir-with-revision", "a revision", revision="main")


def caches(corpus):
    """Ids looked up in a cache made here; HF_HUB_CACHE is relative to the corpus."""
    def cache(name, fragment, model="org/model", revision="", **keys):
        folder = corpus.add(f"cache-{name}", fragment, model=model, revision=revision,
                            env={"HF_HUB_CACHE": f"cache-{name}"}, **keys)
        base = folder / "models--org--model"
        snapshot, blobs = base / "snapshots" / COMMIT, base / "blobs"
        snapshot.mkdir(parents=True)
        blobs.mkdir()
        (base / "refs").mkdir()
        (base / "refs" / "main").write_text(COMMIT)
        writer.write_common_files(snapshot, corpus.config)
        writer.write_safetensors(blobs / "f00d", corpus.tensors(corpus.config))
        os.symlink("../../blobs/f00d", snapshot / FILE)
        return base

    summary = "qwen3 bf16: 1 layers"
    cache("legal", summary, good=True)
    cache("legal-commit", summary, revision=COMMIT, good=True)
    base = cache("legal-branch", summary, revision="refs/pr/1", good=True)
    (base / "refs" / "refs" / "pr").mkdir(parents=True)
    (base / "refs" / "refs" / "pr" / "1").write_text(COMMIT + "\n")
    base = cache("legal-config-link", summary, good=True)
    snapshot = base / "snapshots" / COMMIT
    (snapshot / "config.json").rename(base / "blobs" / "c0de")
    os.symlink("../../blobs/c0de", snapshot / "config.json")
    cache("not-downloaded", "hf download org/other", model="org/other")
    cache("no-org", "hf download other", model="other")
    cache("revision-not-there", "hf download org/model --revision v2", revision="v2")
    cache("commit-not-there", "--revision " + "a" * 40, revision="a" * 40)
    for name, revision in (("parent", "../../x"), ("absolute", "/etc/passwd"), ("blank", "a b"),
                           ("hidden", ".x"), ("empty-part", "a//b"), ("newline", "a\nb")):
        cache(f"revision-{name}", "is no revision", revision=revision)
    for name, text in (("empty", ""), ("parent", "../../../etc"), ("short", "abc123"),
                       ("upper", COMMIT.upper()), ("binary", "\x00\x01")):
        base = cache(f"ref-{name}", "a commit of 40 hexadecimal digits")
        (base / "refs" / "main").write_text(text)
    base = cache("ref-large", "has 5000 bytes, at most 256")
    (base / "refs" / "main").write_text("a" * 5000)
    base = cache("ref-link-out", "a symbolic link to")
    (base / "refs" / "main").unlink()
    os.symlink("/etc/passwd", base / "refs" / "main")
    base = cache("snapshot-gone", "hf download org/model")
    shutil.rmtree(base / "snapshots" / COMMIT)
    base = cache("snapshot-is-file", "is a file")
    shutil.rmtree(base / "snapshots" / COMMIT)
    (base / "snapshots" / COMMIT).write_text("x")
    base = cache("blob-gone", "No such file")
    (base / "blobs" / "f00d").unlink()
    base = cache("link-to-other-model", "a symbolic link to")
    other = base.parent / "models--org--other" / "blobs"
    other.mkdir(parents=True)
    (base / "blobs" / "f00d").rename(other / "f00d")
    link = base / "snapshots" / COMMIT / FILE
    link.unlink()
    os.symlink("../../../models--org--other/blobs/f00d", link)
    for name, model in (("dots", "../no-such-model"), ("three-parts", "a/b/c"), ("blank", "org/my model"),
                        ("empty-name", "org/"), ("nothing", " "), ("long", "o" * 200)):
        cache(f"id-{name}", "No such file", model=model)
    cache("id-ansi", "\\x1B[31m", model="\x1b[31m")
