#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Generates broken checkpoints with a golden list of what must be said about each.

    tools/make_malformed.py OUT        one folder per case, and OUT/cases.json

cases.json: a list of {name, model, revision, env, exit, fragment, check, json_bytes}. `model` is
relative to OUT unless it is an id; `fragment` must be part of the error message (exit 1) or of the
summary (exit 0: files that look odd and are legal); `check` asks for a look at all values;
`json_bytes` is the size of the JSON to be read, for memory limits. Nothing here depends on the code
under test.
"""
import argparse
import json
import os
import pathlib
import shutil
import struct

import checkpoint_writer as writer
import malformed_config
import malformed_index
import malformed_safetensors


class Corpus:
    """Makes case folders around one small sound model and remembers what each must give."""

    def __init__(self, out):
        self.out = pathlib.Path(out)
        self.cases = []
        self.config = writer.make_config("qwen3", layers=1, hidden=64, heads=1, kv_heads=1,
                                         head_dim=64, intermediate=64, tied=True)
        self.moe_config = writer.make_config(
            "qwen3_moe", layers=2, hidden=64, heads=2, kv_heads=1, head_dim=64, intermediate=64,
            experts=4, experts_per_token=2, moe_intermediate=32, tied=True)
        self.fp8_config = writer.make_config("qwen3", layers=1, hidden=64, heads=1, kv_heads=1,
                                             head_dim=64, intermediate=64, tied=True, fp8=True)

    def add(self, name, fragment, good=False, check=False, model=None, revision="", env=None,
            json_bytes=0):
        """Records a case and returns its folder, which has been made."""
        folder = self.out / name
        assert not folder.exists(), name
        folder.mkdir(parents=True)
        self.cases.append({"name": name, "model": name if model is None else model,
                           "revision": revision, "env": env or {}, "exit": 0 if good else 1,
                           "fragment": fragment, "check": check, "json_bytes": json_bytes})
        return folder

    def model(self, name, fragment, config=None, tensors=None, **keys):
        """A case around a sound model, to be damaged by the caller."""
        folder = self.add(name, fragment, **keys)
        config = self.config if config is None else config
        writer.write_common_files(folder, config)
        writer.write_safetensors(folder / "model.safetensors",
                                 self.tensors(config) if tensors is None else tensors)
        return folder

    @staticmethod
    def tensors(config, scale_dtype="F32"):
        """All tensors of a config: weights 0, norms and scales 1."""
        one = {"F32": struct.pack("<f", 1), "F16": b"\x00\x3c", "BF16": b"\x80\x3f"}
        rows = []
        for name, shape, role in writer.tensor_list(config):
            count = writer.element_count(shape)
            if role == "linear" and "quantization_config" in config:
                blocks = writer.scale_shape(shape)
                rows.append((name, "F8_E4M3", shape, bytes(count)))
                rows.append((name + "_scale_inv", scale_dtype, blocks,
                             one[scale_dtype] * writer.element_count(blocks)))
            else:
                rows.append((name, "BF16", shape,
                             one["BF16"] * count if role == "norm" else bytes(2 * count)))
        return rows

    def header(self, config=None):
        """The sound model's header as a dict, and its data."""
        tensors = self.tensors(config or self.config)
        text, _ = writer.header_json([t[:3] for t in tensors])
        return json.loads(text), b"".join(t[3] for t in tensors)

    def with_header(self, name, fragment, header, data=None, length=None, **keys):
        """A case whose safetensors file has this header (dict, text or bytes) and data."""
        if isinstance(header, dict):
            header = json.dumps(header, separators=(",", ":"))
        if isinstance(header, str):
            header = header.encode()
        folder = self.model(name, fragment, **keys)
        writer.write_raw(folder / "model.safetensors", header,
                         self.header()[1] if data is None else data, length)
        return folder


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("out", type=pathlib.Path)
    out = parser.parse_args().out
    if out.exists():
        shutil.rmtree(out)
    corpus = Corpus(out)
    malformed_safetensors.generate(corpus)
    malformed_index.generate(corpus)
    malformed_config.generate(corpus)
    # Links and ids in the cases need the place where they finally lie.
    (out / "cases.json").write_text(json.dumps(corpus.cases, indent=1), encoding="utf-8")
    print(f"{len(corpus.cases)} cases in {os.fspath(out)}")


if __name__ == "__main__":
    main()
