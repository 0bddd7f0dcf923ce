#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Random tiny Qwen3 and Qwen3-MoE checkpoints of every stored form, for comparison with other
implementations. Needs numpy only.

    tools/make_tiny_checkpoint.py OUT --family qwen3_moe --dtype fp8 --scale-dtype bf16 --tied
    tools/make_tiny_checkpoint.py OUT --all       every combination, one folder each, + manifest.json
"""
import argparse
import itertools
import pathlib

import numpy as np

import checkpoint_writer as writer

STORED = {"bf16": "BF16", "f16": "F16", "f32": "F32", "fp8": "F8_E4M3"}
TORCH = {"bf16": "bfloat16", "f16": "float16", "f32": "float32", "fp8": "bfloat16"}


def e4m3_values():
    """The values of the codes 0x00 to 0x7E, ascending."""
    codes = np.arange(127)
    exponent, mantissa = codes >> 3, codes & 7
    return np.where(exponent == 0, mantissa * 2.0**-9,
                    (1 + mantissa / 8) * 2.0**(exponent - 7.0))


E4M3 = e4m3_values()


def to_bf16(x):
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bf16(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def to_e4m3(x):
    """Nearest code, ties to the even one, saturating at 448."""
    magnitude = np.minimum(np.abs(x), 448.0).astype(np.float64)
    above = np.clip(np.searchsorted(E4M3, magnitude), 1, 126)
    low, high = E4M3[above - 1], E4M3[above]
    nearer_high = magnitude - low > high - magnitude
    tie = magnitude - low == high - magnitude
    code = np.where(nearer_high | (tie & (above % 2 == 0)), above, above - 1)
    return (code | np.where(np.signbit(x), 0x80, 0)).astype(np.uint8)


def encode(x, dtype):
    """float32 array -> (bytes as stored, the float32 values those bytes mean)."""
    if dtype == "BF16":
        bits = to_bf16(x)
        return bits.tobytes(), from_bf16(bits)
    stored = x.astype({"F16": np.float16, "F32": np.float32}[dtype])
    return stored.tobytes(), stored.astype(np.float32)


def quantise(name, x, scale_dtype):
    """An FP8 weight and its scales per 128 x 128, as two tensors."""
    rows, cols = writer.scale_shape(x.shape)
    block = writer.BLOCK
    scale = np.empty((rows, cols), np.float32)
    for row, col in itertools.product(range(rows), range(cols)):
        part = x[row * block:(row + 1) * block, col * block:(col + 1) * block]
        scale[row, col] = np.abs(part).max() / 448
    scale_bytes, scale = encode(scale, STORED[scale_dtype])
    spread = np.repeat(np.repeat(scale, block, 0), block, 1)[:x.shape[0], :x.shape[1]]
    return [(name, "F8_E4M3", list(x.shape), to_e4m3(x / spread).tobytes()),
            (name + "_scale_inv", STORED[scale_dtype], [rows, cols], scale_bytes)]


def make_tensors(config, dtype, scale_dtype, seed):
    """Weights of unit gain, so that every part moves the logits."""
    random = np.random.default_rng(seed)
    plain = STORED["bf16" if dtype == "fp8" else dtype]
    tensors = []
    for name, shape, role in writer.tensor_list(config):
        if role == "norm":
            values = 1 + 0.2 * random.standard_normal(shape, np.float32)
        else:
            values = random.standard_normal(shape, np.float32) / np.sqrt(shape[-1])
        if role == "linear" and dtype == "fp8":
            tensors += quantise(name, values, scale_dtype)
        else:
            tensors.append((name, plain, shape, encode(values, plain)[0]))
    return tensors


def write_model(directory, config, tensors, shards, odd_address):
    """`odd_address`: the data start where no element size divides the offset."""
    directory.mkdir(parents=True, exist_ok=True)
    writer.write_common_files(directory, config)
    if shards == 1:
        path = directory / "model.safetensors"
        header, _ = writer.header_json([t[:3] for t in tensors], {"format": "pt"})
        header += b" " * ((1 - len(header)) % 8 if odd_address else -len(header) % 8)
        writer.write_raw(path, header, b"".join(t[3] for t in tensors))
        return
    parts = [tensors[number::shards] for number in range(shards)]
    for number, part in enumerate(parts, 1):
        writer.write_safetensors(directory / writer.shard_name(number, shards), part,
                                 metadata={"format": "pt"})
    writer.write_index(directory, parts)


def make(directory, args):
    config = writer.make_config(
        args["family"], layers=args["layers"], hidden=args["hidden"], heads=args["heads"],
        kv_heads=args["kv_heads"], head_dim=args["head_dim"], vocab=args["vocab"],
        experts=args["experts"], experts_per_token=args["experts_per_token"],
        moe_intermediate=args["moe_intermediate"], intermediate=args["intermediate"],
        tied=args["tied"], dtype=TORCH[args["dtype"]], fp8=args["dtype"] == "fp8",
        spelling=args["spelling"])
    if args["family"] == "qwen3_moe":
        config["mlp_only_layers"] = args["mlp_only_layers"]
    tensors = make_tensors(config, args["dtype"], args["scale_dtype"], args["seed"])
    write_model(directory, config, tensors, args["shards"], args["odd_address"])


def all_variants(args):
    """Every family x weights x scales x tied x sharded x spelling, with a name for each."""
    weights = [(dtype, "f32") for dtype in ("bf16", "f16", "f32")]
    weights += [("fp8", scale) for scale in ("f32", "f16", "bf16")]
    grid = itertools.product(("qwen3", "qwen3_moe"), weights, (False, True), (1, 3),
                             ("old", "new"))
    for seed, (family, (dtype, scale), tied, shards, spelling) in enumerate(grid):
        variant = dict(args, family=family, dtype=dtype, scale_dtype=scale, tied=tied,
                       shards=shards, spelling=spelling, seed=args["seed"] + seed)
        name = "-".join([family, dtype] + ([scale] if dtype == "fp8" else []) +
                        ["tied" if tied else "untied",
                         "single" if shards == 1 else "sharded", spelling])
        yield name, variant


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--family", choices=("qwen3", "qwen3_moe"), default="qwen3_moe")
    parser.add_argument("--dtype", choices=tuple(STORED), default="fp8")
    parser.add_argument("--scale-dtype", choices=("f32", "f16", "bf16"), default="f32")
    parser.add_argument("--spelling", choices=("old", "new"), default="old")
    parser.add_argument("--tied", action="store_true")
    parser.add_argument("--odd-address", action="store_true")
    parser.add_argument("--mlp-only-layers", type=int, nargs="*", default=[])
    for name, value in (("shards", 1), ("seed", 1), ("layers", 2), ("hidden", 192), ("heads", 4),
                        ("kv-heads", 2), ("head-dim", 64), ("vocab", 320), ("experts", 8),
                        ("experts-per-token", 2), ("moe-intermediate", 96),
                        ("intermediate", 320)):
        parser.add_argument("--" + name, type=int, default=value)
    args = vars(parser.parse_args())
    out, everything = args.pop("out"), args.pop("all")
    if not everything:
        make(out, args)
        return
    manifest = {}
    for name, variant in all_variants(args):
        make(out / name, variant)
        manifest[name] = variant
    writer.write_json(out, "manifest.json", manifest)
    print(f"{len(manifest)} checkpoints in {out}, first seed {args['seed']}")


if __name__ == "__main__":
    main()
