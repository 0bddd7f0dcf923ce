#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A checkpoint with the names, shapes and shards of a 30-billion-parameter Qwen3-MoE in FP8 (48
layers, 128 experts, 37,491 tensors), as sparse files that take almost no disk.

    tools/make_synthetic_30b.py OUT [--layers 48] [--experts 128] [--scale-dtype BF16]
"""
import argparse
import pathlib

import checkpoint_writer as writer

SHARD_BYTES = 5_000_000_000


def entries(config, scale_dtype):
    """(name, dtype, shape) as such checkpoints store them."""
    for name, shape, role in writer.tensor_list(config):
        if role != "linear":
            yield name, "BF16", shape
            continue
        yield name, "F8_E4M3", shape
        yield name + "_scale_inv", scale_dtype, writer.scale_shape(shape)


def split(rows):
    """Shards of at most SHARD_BYTES."""
    shards, size = [[]], 0
    for row in rows:
        taken = writer.element_count(row[2]) * writer.DTYPE_BYTES[row[1]]
        if size + taken > SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append(row)
        size += taken
    return shards


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--layers", type=int, default=48)
    parser.add_argument("--experts", type=int, default=128)
    parser.add_argument("--scale-dtype", choices=("F32", "F16", "BF16"), default="BF16")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    config = writer.make_config(
        "qwen3_moe", layers=args.layers, hidden=2048, heads=32, kv_heads=4, head_dim=128,
        vocab=151936, intermediate=6144, experts=args.experts, experts_per_token=8,
        moe_intermediate=768, fp8=True, max_position=262144, rope_theta=1e7, eos=256)
    writer.write_common_files(args.out, config)
    shards = split(entries(config, args.scale_dtype))
    for number, shard in enumerate(shards, 1):
        writer.write_sparse(args.out / writer.shard_name(number, len(shards)), shard)
    writer.write_index(args.out, shards)
    print(f"{sum(map(len, shards))} tensors in {len(shards)} files")


if __name__ == "__main__":
    main()
