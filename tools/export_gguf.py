#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a Qwen3-MoE checkpoint as a GGUF file, so that llama.cpp can run the same weights.

    tools/export_gguf.py models/hga-mini /tmp/hga-mini.gguf [--type f16|bf16|f32]

FP8 weights are multiplied by their scales and rounded to the chosen type; norms and the router stay
float32. For comparisons of speed only. Needs numpy and gguf (PyPI).
"""
import argparse
import json
import pathlib
import struct
import sys

import gguf
import numpy as np

LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate": "ffn_gate_inp",
}
EXPERT_NAMES = {"gate_proj": "ffn_gate_exps", "up_proj": "ffn_up_exps", "down_proj": "ffn_down_exps"}
TYPES = {"f16": gguf.GGMLQuantizationType.F16, "bf16": gguf.GGMLQuantizationType.BF16,
         "f32": gguf.GGMLQuantizationType.F32}
FILE_TYPES = {"f16": gguf.LlamaFileType.MOSTLY_F16, "bf16": gguf.LlamaFileType.MOSTLY_BF16,
              "f32": gguf.LlamaFileType.ALL_F32}


def e4m3_values():
    """The 256 values of FP8 E4M3 (no infinities, NaN at 0x7f and 0xff)."""
    values = np.empty(256, np.float32)
    for code in range(256):
        exponent, mantissa = (code >> 3) & 15, code & 7
        size = mantissa * 2.0**-9 if exponent == 0 else (1 + mantissa / 8) * 2.0 ** (exponent - 7)
        if exponent == 15 and mantissa == 7:
            size = float("nan")
        values[code] = -size if code & 128 else size
    return values


class Checkpoint:
    """Tensors of a directory's safetensors files as float32 arrays."""

    def __init__(self, directory):
        self.entries = {}
        self.e4m3 = e4m3_values()
        for path in sorted(directory.glob("*.safetensors")):
            with open(path, "rb") as file:
                length, = struct.unpack("<Q", file.read(8))
                header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            data = np.memmap(path, np.uint8, "r", 8 + length)
            for name, entry in header.items():
                self.entries[name] = (data, entry)
        if not self.entries:
            sys.exit(f"{directory}: no safetensors files")

    def raw(self, name):
        data, entry = self.entries[name]
        begin, end = entry["data_offsets"]
        piece, shape = data[begin:end], entry["shape"]
        dtype = entry["dtype"]
        if dtype == "F8_E4M3":
            return self.e4m3[piece].reshape(shape)
        if dtype == "BF16":
            return (piece.view("<u2").astype(np.uint32) << 16).view(np.float32).reshape(shape)
        if dtype in ("F16", "F32"):
            return piece.view("<f2" if dtype == "F16" else "<f4").astype(np.float32).reshape(shape)
        sys.exit(f"{name}: dtype {dtype} is not supported")

    def get(self, name):
        """A weight by its module's name, scales applied."""
        weight = self.raw(name + ".weight")
        if name + ".weight_scale_inv" in self.entries:
            scale = self.raw(name + ".weight_scale_inv")
            full = np.repeat(np.repeat(scale, 128, axis=0), 128, axis=1)
            weight = weight * full[:weight.shape[0], :weight.shape[1]]
        return weight


def write_settings(writer, config, name, kind):
    writer.add_name(name)
    writer.add_file_type(FILE_TYPES[kind])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_expert_count(config["num_experts"])
    writer.add_expert_used_count(config["num_experts_per_tok"])
    writer.add_expert_feed_forward_length(config["moe_intermediate_size"])


def write_tokenizer(writer, directory, config):
    with open(directory / "tokenizer.json", encoding="utf-8") as file:
        tokenizer = json.load(file)
    tokens = [f"[PAD{i}]" for i in range(config["vocab_size"])]
    types = [int(gguf.TokenType.UNUSED)] * len(tokens)
    for text, number in tokenizer["model"]["vocab"].items():
        tokens[number], types[number] = text, int(gguf.TokenType.NORMAL)
    for added in tokenizer["added_tokens"]:
        kind = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
        tokens[added["id"]], types[added["id"]] = added["content"], int(kind)
    merges = [merge if isinstance(merge, str) else " ".join(merge)
              for merge in tokenizer["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    eos = config["eos_token_id"]
    writer.add_eos_token_id(eos[0] if isinstance(eos, list) else eos)
    writer.add_add_bos_token(False)


def write_tensors(writer, config, checkpoint, kind):
    def add(name, array, quantization):
        data = gguf.quants.quantize(np.ascontiguousarray(array), quantization)
        writer.add_tensor(name, data, raw_dtype=quantization)

    chosen, full = TYPES[kind], TYPES["f32"]
    add("token_embd.weight", checkpoint.get("model.embed_tokens"), chosen)
    add("output_norm.weight", checkpoint.get("model.norm"), full)
    if not config["tie_word_embeddings"]:
        add("output.weight", checkpoint.get("lm_head"), chosen)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        for source, target in LAYER_NAMES.items():
            weight = checkpoint.get(prefix + source)
            small = weight.ndim == 1 or source == "mlp.gate"
            add(f"blk.{layer}.{target}.weight", weight, full if small else chosen)
        for source, target in EXPERT_NAMES.items():
            experts = [checkpoint.get(f"{prefix}mlp.experts.{expert}.{source}")
                       for expert in range(config["num_experts"])]
            add(f"blk.{layer}.{target}.weight", np.stack(experts), chosen)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path, help="checkpoint directory")
    parser.add_argument("output", type=pathlib.Path, help="GGUF file to write")
    parser.add_argument("--type", choices=TYPES, default="f16")
    options = parser.parse_args()
    with open(options.model / "config.json", encoding="utf-8") as file:
        config = json.load(file)
    if config["model_type"] != "qwen3_moe":
        sys.exit(f"{options.model}: model_type {config['model_type']}, only qwen3_moe is written")
    writer = gguf.GGUFWriter(options.output, "qwen3moe")
    write_settings(writer, config, options.model.name, options.type)
    write_tokenizer(writer, options.model, config)
    write_tensors(writer, config, Checkpoint(options.model), options.type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
