# SPDX-License-Identifier: Apache-2.0
"""Writes safetensors files, shard indexes and configs byte by byte, without any library.

Shared by make_tiny_checkpoint.py, make_synthetic_30b.py and make_malformed.py, so that tests do
not depend on the code whose files they check.
"""
import json
import pathlib
import struct

DTYPE_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F64": 8, "I64": 8, "I16": 2,
               "U16": 2, "U8": 1, "I8": 1, "BOOL": 1, "C64": 8}
BLOCK = 128

SPLIT_PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+"
                 r"[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def element_count(shape):
    count = 1
    for dim in shape:
        count *= dim
    return count


def header_json(entries, metadata=None, spacing=False):
    """entries: (name, dtype, shape); ranges follow each other in that order."""
    header = {} if metadata is None else {"__metadata__": metadata}
    offset = 0
    for name, dtype, shape in entries:
        size = element_count(shape) * DTYPE_BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape),
                        "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=None if spacing else (",", ":")).encode()
    return text, offset


def write_raw(path, header, data=b"", length=None):
    """A file of any length field, header bytes and data."""
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(header) if length is None else length))
        out.write(header)
        out.write(data)


def write_safetensors(path, tensors, pad_to=8, metadata=None):
    """tensors: (name, dtype, shape, bytes). The header is padded with blanks to `pad_to`."""
    header, _ = header_json([t[:3] for t in tensors], metadata)
    header += b" " * (-len(header) % pad_to)
    for name, dtype, shape, data in tensors:
        assert len(data) == element_count(shape) * DTYPE_BYTES[dtype], name
    write_raw(path, header, b"".join(t[3] for t in tensors))


def write_sparse(path, entries):
    """Right headers over data that takes no disk: the file is only made long."""
    header, size = header_json(entries, {"format": "pt"})
    header += b" " * (-len(header) % 8)
    write_raw(path, header)
    with open(path, "r+b") as out:
        out.truncate(8 + len(header) + size)


def shard_name(number, count):
    return f"model-{number:05}-of-{count:05}.safetensors"


def write_index(directory, shards):
    """shards: lists of entries (name, dtype, shape, ...)."""
    weight_map, total = {}, 0
    for number, shard in enumerate(shards, 1):
        for entry in shard:
            weight_map[entry[0]] = shard_name(number, len(shards))
            total += element_count(entry[2]) * DTYPE_BYTES[entry[1]]
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    path = pathlib.Path(directory, "model.safetensors.index.json")
    path.write_text(json.dumps(index, indent=2), encoding="utf-8")


def write_json(directory, name, value):
    pathlib.Path(directory, name).write_text(json.dumps(value, indent=2), encoding="utf-8")


def make_config(family="qwen3", *, layers=2, hidden=192, heads=4, kv_heads=2, head_dim=64,
                vocab=320, intermediate=320, experts=8, experts_per_token=2, moe_intermediate=96,
                tied=False, dtype="bfloat16", fp8=False, spelling="old", max_position=4096,
                rope_theta=1000000.0, eos=256):
    """config.json of a Qwen3 or Qwen3-MoE model, in the spelling of transformers 4 or 5."""
    config = {
        "architectures": [{"qwen3": "Qwen3ForCausalLM",
                           "qwen3_moe": "Qwen3MoeForCausalLM"}[family]],
        "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": None,
        "eos_token_id": eos, "head_dim": head_dim, "hidden_act": "silu", "hidden_size": hidden,
        "initializer_range": 0.02, "intermediate_size": intermediate,
        "max_position_embeddings": max_position, "max_window_layers": layers,
        "model_type": family, "num_attention_heads": heads, "num_hidden_layers": layers,
        "num_key_value_heads": kv_heads, "rms_norm_eps": 1e-06, "sliding_window": None,
        "tie_word_embeddings": tied, "use_cache": True, "use_sliding_window": False,
        "vocab_size": vocab,
    }
    if family == "qwen3_moe":
        config |= {"decoder_sparse_step": 1, "mlp_only_layers": [],
                   "moe_intermediate_size": moe_intermediate, "norm_topk_prob": True,
                   "num_experts": experts, "num_experts_per_tok": experts_per_token,
                   "output_router_logits": False, "router_aux_loss_coef": 0.001}
    if spelling == "old":
        config |= {"rope_theta": rope_theta, "rope_scaling": None, "torch_dtype": dtype}
    else:
        config |= {"rope_parameters": {"rope_theta": rope_theta, "rope_type": "default"},
                   "dtype": dtype, "layer_types": ["full_attention"] * layers}
    if fp8:
        config["quantization_config"] = {
            "activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
            "weight_block_size": [BLOCK, BLOCK],
            "modules_to_not_convert": ["lm_head"] + [
                f"model.layers.{layer}.{part}" for layer in range(layers)
                for part in ("input_layernorm", "post_attention_layernorm", "mlp.gate")]}
    return config


def is_moe_layer(config, layer):
    return (config["model_type"] == "qwen3_moe" and layer not in config["mlp_only_layers"]
            and (layer + 1) % config["decoder_sparse_step"] == 0)


def tensor_list(config):
    """(name, shape, role) of every tensor without scales; roles: norm, embedding, router, linear."""
    hidden, head_dim = config["hidden_size"], config["head_dim"]
    q_width = config["num_attention_heads"] * head_dim
    kv_width = config["num_key_value_heads"] * head_dim
    tensors = [("model.embed_tokens.weight", [config["vocab_size"], hidden], "embedding")]

    def feed_forward(prefix, width):
        return [(prefix + "gate_proj.weight", [width, hidden], "linear"),
                (prefix + "up_proj.weight", [width, hidden], "linear"),
                (prefix + "down_proj.weight", [hidden, width], "linear")]

    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        attention = prefix + "self_attn."
        tensors += [(prefix + "input_layernorm.weight", [hidden], "norm"),
                    (attention + "q_proj.weight", [q_width, hidden], "linear"),
                    (attention + "k_proj.weight", [kv_width, hidden], "linear"),
                    (attention + "v_proj.weight", [kv_width, hidden], "linear"),
                    (attention + "o_proj.weight", [hidden, q_width], "linear"),
                    (attention + "q_norm.weight", [head_dim], "norm"),
                    (attention + "k_norm.weight", [head_dim], "norm"),
                    (prefix + "post_attention_layernorm.weight", [hidden], "norm")]
        if not is_moe_layer(config, layer):
            tensors += feed_forward(prefix + "mlp.", config["intermediate_size"])
            continue
        tensors.append((prefix + "mlp.gate.weight", [config["num_experts"], hidden], "router"))
        for expert in range(config["num_experts"]):
            tensors += feed_forward(f"{prefix}mlp.experts.{expert}.",
                                    config["moe_intermediate_size"])
    tensors.append(("model.norm.weight", [hidden], "norm"))
    if not config["tie_word_embeddings"]:
        tensors.append(("lm_head.weight", [config["vocab_size"], hidden], "embedding"))
    return tensors


def scale_shape(shape):
    return [-(-shape[0] // BLOCK), -(-shape[1] // BLOCK)]


def byte_characters():
    """The 256 printable characters that stand for bytes in a byte-level BPE vocabulary."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table, extra = {}, 0
    for byte in range(256):
        if byte in plain:
            table[byte] = chr(byte)
        else:
            table[byte] = chr(0x100 + extra)
            extra += 1
    return table


def byte_tokenizer():
    """tokenizer.json with one token per byte and three added ones (ids 256 to 258)."""
    added = [{"id": 256 + i, "content": text, "single_word": False, "lstrip": False,
              "rstrip": False, "normalized": False, "special": True}
             for i, text in enumerate(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False,
                  "use_regex": False}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": SPLIT_PATTERN}, "behavior": "Isolated",
             "invert": False}, byte_level]},
        "post_processor": byte_level, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": "", "end_of_word_suffix": "",
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {c: byte for byte, c in byte_characters().items()}, "merges": []}}


def write_common_files(directory, config):
    """config.json, generation_config.json and a tokenizer of single bytes."""
    write_json(directory, "config.json", config)
    write_json(directory, "generation_config.json",
               {"do_sample": False, "eos_token_id": config["eos_token_id"]})
    write_json(directory, "tokenizer.json", byte_tokenizer())
    write_json(directory, "tokenizer_config.json",
               {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>",
                "pad_token": "<|endoftext|>", "model_max_length":
                    config["max_position_embeddings"]})
