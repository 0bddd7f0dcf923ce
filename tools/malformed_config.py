# SPDX-License-Identifier: Apache-2.0
"""Broken config.json and generation_config.json files for make_malformed.py."""
import json
import os

import checkpoint_writer as writer

SUMMARY = "qwen3 bf16: 1 layers"

# What each key of every config is tried with; {} values a key may have are left out.
WEIRD = {"string": "32", "minus-1": -1, "zero": 0, "1e308": 1e308, "2-to-40": 2**40,
         "2-to-63": 2**63, "true": True, "list": [1], "object": {"a": 1}}
NUMBERS = ["hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
           "head_dim", "vocab_size", "intermediate_size", "max_position_embeddings",
           "rms_norm_eps", "rope_theta"]
MOE_NUMBERS = ["num_experts", "num_experts_per_tok", "moe_intermediate_size"]


def generate(corpus):
    numbers(corpus)
    text(corpus)
    families(corpus)
    shapes(corpus)
    rope(corpus)
    attention(corpus)
    quantisation(corpus)
    generation(corpus)


def changed(corpus, name, fragment, base=None, drop=(), good=False, **changes):
    """A case whose config.json has these values, or lacks those keys."""
    base = corpus.config if base is None else base
    folder = corpus.model(f"config-{name}", fragment, base, good=good)
    config = {key: value for key, value in (base | changes).items() if key not in drop}
    writer.write_json(folder, "config.json", config)
    return folder


def numbers(corpus):
    for keys, base in ((NUMBERS, corpus.config), (MOE_NUMBERS, corpus.moe_config)):
        for key in keys:
            changed(corpus, f"{key}-absent", f"{key}: is missing", base, drop=(key,))
            changed(corpus, f"{key}-null", f"{key}: is missing", base, **{key: None})
            for name, value in WEIRD.items():
                if key == "rope_theta" and name == "2-to-40":
                    continue
                changed(corpus, f"{key}-{name}", f"{key}: is ", base, **{key: value})
    for key, base in (("tie_word_embeddings", corpus.config),
                      ("norm_topk_prob", corpus.moe_config)):
        for name, value in (("string", "true"), ("number", 1), ("list", [])):
            changed(corpus, f"{key}-{name}", f"{key}: is ", base, **{key: value})


def text(corpus):
    def raw(name, fragment, data):
        folder = corpus.model(f"config-{name}", fragment)
        (folder / "config.json").write_bytes(data)

    good = json.dumps(corpus.config).encode()
    raw("empty", "is empty", b"")
    raw("blank", "not valid JSON", b"   ")
    raw("list", "a JSON object is needed", b"[1]")
    raw("null", "a JSON object is needed", b"null")
    raw("cut", "not valid JSON", good[:-10])
    raw("trailing-comma", "not valid JSON", good[:-1] + b",}")
    raw("two-objects", "not valid JSON", good + b"{}")
    raw("not-utf8", "not valid JSON", good.replace(b"silu", b"\xff\xfe"))
    raw("utf16", "not valid JSON", good.decode().encode("utf-16"))
    raw("nul-bytes", "not valid JSON", good + bytes(3))
    raw("nan", "not valid JSON", good.replace(b"1e-06", b"NaN"))
    raw("deep", "not valid JSON", good[:-1] + b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
    raw("key-twice", '"vocab_size" appears twice', good[:-1] + b',"vocab_size":320}')
    raw("key-twice-escaped", '"vocab_size" appears twice', good[:-1] + b',"vocab\\u005fsize":1}')
    folder = corpus.model("config-1-gb", "has 1000000000 bytes, at most 16777216")
    os.truncate(folder / "config.json", 1_000_000_000)
    folder = corpus.model("config-link-out", "a symbolic link to")
    (folder / "config.json").unlink()
    os.symlink("/etc/hostname", folder / "config.json")
    folder = corpus.model("config-directory", "is a directory")
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()


def families(corpus):
    for family in ("llama", "mistral", "qwen2", "qwen2_moe", "qwen3_next", "gemma3", "gpt2",
                   "deepseek_v3", "Qwen3"):
        changed(corpus, f"family-{family.lower()}-{len(family)}",
                f'model_type: "{family}" is a model family', model_type=family)
    changed(corpus, "family-absent", "model_type: is missing", drop=("model_type",))
    changed(corpus, "family-number", "model_type: is 3", model_type=3)
    changed(corpus, "family-ansi", '\\x1B[31m', model_type="\x1b[31mred\n")
    changed(corpus, "architectures-empty", "architectures: is []", architectures=[])
    changed(corpus, "architectures-unknown", "does not contain Qwen3ForCausalLM",
            architectures=["Qwen3ForSequenceClassification"])
    changed(corpus, "architectures-other-family", "does not contain Qwen3ForCausalLM",
            architectures=["Qwen3MoeForCausalLM"])
    changed(corpus, "architectures-string", "architectures: is ", architectures="Qwen3ForCausalLM")
    changed(corpus, "architectures-numbers", "architectures: item 0", architectures=[1])
    changed(corpus, "legal-no-architectures", SUMMARY, drop=("architectures",), good=True)
    changed(corpus, "legal-auto-map", SUMMARY, good=True,
            auto_map={"AutoModelForCausalLM": "modeling_x.X"})
    changed(corpus, "legal-unknown-key", SUMMARY, good=True, a_new_key={"x": [1, 2]})


def shapes(corpus):
    changed(corpus, "heads-not-multiple", "is no multiple of num_key_value_heads 3",
            num_attention_heads=4, num_key_value_heads=3)
    changed(corpus, "more-kv-heads", "is no multiple of num_key_value_heads 2",
            num_key_value_heads=2)
    for head_dim in (1, 63, 80, 96, 256, 127):
        changed(corpus, f"head-dim-{head_dim}", f"head_dim: is {head_dim}, this build runs 64 and 128",
                head_dim=head_dim)
    changed(corpus, "layers-1e9", "num_hidden_layers: is 1000000000",
            num_hidden_layers=1_000_000_000)
    changed(corpus, "layers-fraction", "num_hidden_layers: is 1.5", num_hidden_layers=1.5)
    changed(corpus, "layers-1.0", "num_hidden_layers: is 1,", num_hidden_layers=1.0)
    changed(corpus, "layers-2", 'is missing', num_hidden_layers=2)
    changed(corpus, "vocab-smaller", "asks for [319, 64]", vocab_size=319)
    changed(corpus, "vocab-larger", "asks for [321, 64]", vocab_size=321)
    changed(corpus, "hidden-other", "asks for [320, 128]", hidden_size=128)
    changed(corpus, "untied", 'lm_head.weight" is missing', tie_word_embeddings=False)
    moe = corpus.moe_config
    changed(corpus, "experts-per-token-5-of-4", "num_experts_per_tok: is 5", moe,
            num_experts_per_tok=5)
    changed(corpus, "experts-5", "asks for [5, 64]", moe, num_experts=5)
    changed(corpus, "experts-3", "has shape", moe, num_experts=3)
    changed(corpus, "norm-topk-absent", "norm_topk_prob: is missing", moe, drop=("norm_topk_prob",))
    changed(corpus, "sparse-step-0", "decoder_sparse_step: is 0", moe, decoder_sparse_step=0)
    changed(corpus, "sparse-step-2", "is missing", moe, decoder_sparse_step=2)
    changed(corpus, "mlp-only-2", "mlp_only_layers: item 0", moe, mlp_only_layers=[2])
    changed(corpus, "mlp-only-negative", "mlp_only_layers: item 1", moe, mlp_only_layers=[0, -1])
    changed(corpus, "mlp-only-million", "mlp_only_layers: item 1024", moe,
            mlp_only_layers=[0] * 1_000_000)
    changed(corpus, "mlp-only-string", "mlp_only_layers: is ", moe, mlp_only_layers="0")


def rope(corpus):
    old, both = corpus.config, {"rope_theta": 1e6, "rope_type": "default"}
    for kind in ("linear", "dynamic", "yarn", "llama3", "longrope", "su", "mrope", ""):
        for key in ("type", "rope_type"):
            changed(corpus, f"rope-scaling-{key}-{kind or 'empty'}", f'rope_type: "{kind}" is a scaling',
                    rope_scaling={key: kind, "factor": 4.0})
        changed(corpus, f"rope-parameters-{kind or 'empty'}", f'rope_type: "{kind}" is a scaling',
                old, drop=("rope_theta", "rope_scaling"),
                rope_parameters={"rope_type": kind, "rope_theta": 1e6, "factor": 4.0})
    changed(corpus, "rope-scaling-string", "rope_scaling: is ", rope_scaling="yarn")
    changed(corpus, "rope-scaling-factor", "factor: is not known", rope_scaling={"factor": 2.0})
    changed(corpus, "rope-type-number", "rope_type: is 1", rope_scaling={"rope_type": 1})
    changed(corpus, "rope-two-thetas", "rope_parameters.rope_theta is 1000000",
            rope_theta=5e5, rope_parameters=both)
    changed(corpus, "rope-no-theta", "rope_theta: is missing", drop=("rope_theta",),
            rope_parameters={"rope_type": "default"})
    changed(corpus, "rope-per-layer-type", "a rotary embedding per layer type",
            rope_parameters={"full_attention": both})
    changed(corpus, "rope-partial", "partial_rotary_factor: is 0.5",
            rope_parameters=both | {"partial_rotary_factor": 0.5})
    changed(corpus, "legal-rope-parameters", SUMMARY, drop=("rope_theta", "rope_scaling"), good=True,
            rope_parameters=both)
    changed(corpus, "legal-rope-both", SUMMARY, good=True, rope_parameters=both)


def attention(corpus):
    changed(corpus, "attention-bias", "attention_bias: true is not supported", attention_bias=True)
    changed(corpus, "attention-bias-string", "attention_bias: is ", attention_bias="no")
    changed(corpus, "sliding-window", "sliding_window: is 4096 and in use",
            use_sliding_window=True, sliding_window=4096)
    changed(corpus, "dual-chunk", "dual_chunk_attention_config: is not supported",
            dual_chunk_attention_config={"chunk_size": 262144})
    changed(corpus, "act-gelu", 'hidden_act: "gelu" is not supported', hidden_act="gelu")
    changed(corpus, "act-number", "hidden_act: is 1", hidden_act=1)
    changed(corpus, "layer-types-short", "has 0 items for 1 layers", layer_types=[])
    changed(corpus, "layer-types-long", "has 2 items for 1 layers",
            layer_types=["full_attention"] * 2)
    changed(corpus, "layer-types-sliding", '"sliding_attention" is not supported',
            layer_types=["sliding_attention"])
    changed(corpus, "layer-types-linear", '"linear_attention" is not supported',
            layer_types=["linear_attention"])
    changed(corpus, "layer-types-string", "layer_types: is ", layer_types="full_attention")
    changed(corpus, "dtype-number", "torch_dtype: is 16", torch_dtype=16)
    changed(corpus, "legal-window-not-used", SUMMARY, good=True, sliding_window=4096)
    changed(corpus, "legal-new-dtype", SUMMARY, good=True, drop=("torch_dtype",), dtype="bfloat16")


def quantisation(corpus):
    base = corpus.fp8_config
    sound = base["quantization_config"]

    def quant(name, fragment, drop=(), good=False, **changes):
        value = {key: item for key, item in (sound | changes).items() if key not in drop}
        changed(corpus, f"quant-{name}", fragment, base, good=good, quantization_config=value)

    for method in ("compressed-tensors", "gptq", "awq", "bitsandbytes", "modelopt", "mxfp4",
                   "fbgemm_fp8", "torchao", "FP8", ""):
        quant(f"method-{method.lower() or 'empty'}-{len(method)}",
              f'quant_method: "{method}" is a quantisation', quant_method=method)
    quant("method-absent", "quant_method: is missing", drop=("quant_method",))
    quant("method-number", "quant_method: is 8", quant_method=8)
    quant("format-e5m2", 'fmt: "e5m2" is not supported', fmt="e5m2")
    quant("static", 'activation_scheme: "static" is not supported', activation_scheme="static")
    quant("scale-ue8m0", 'scale_fmt: "ue8m0" is not supported', scale_fmt="ue8m0")
    quant("block-absent", "weight_block_size: is []", drop=("weight_block_size",))
    quant("block-null", "weight_block_size: is []", weight_block_size=None)
    quant("block-0", "weight_block_size: is [0, 0]", weight_block_size=[0, 0])
    quant("block-64", "weight_block_size: is [64, 64]", weight_block_size=[64, 64])
    quant("block-one", "weight_block_size: is [128]", weight_block_size=[128])
    quant("block-three", "weight_block_size: item 2", weight_block_size=[128] * 3)
    quant("block-negative", "weight_block_size: item 0", weight_block_size=[-128, 128])
    quant("block-number", "weight_block_size: is 128", weight_block_size=128)
    quant("block-huge", "weight_block_size: item 0", weight_block_size=[2**63, 128])
    quant("modules-string", "modules_to_not_convert: is ", modules_to_not_convert="lm_head")
    quant("modules-numbers", "modules_to_not_convert: item 0", modules_to_not_convert=[1])
    quant("modules-many", "modules_to_not_convert: has more than",
          modules_to_not_convert=["x"] * 100_000)
    changed(corpus, "quant-is-string", "quantization_config: is ", base, quantization_config="fp8")
    changed(corpus, "quant-is-list", "quantization_config: is ", base, quantization_config=[])
    changed(corpus, "quant-empty", "quant_method: is missing", base, quantization_config={})
    changed(corpus, "quant-compression-config", "compression_config: is a quantisation",
            compression_config={"format": "float-quantized"})
    changed(corpus, "quant-of-bf16-weights-absent", "has no quantization_config", base,
            drop=("quantization_config",))
    quant("legal-no-modules", "qwen3 fp8-e4m3 128x128", good=True, drop=("modules_to_not_convert",))


def generation(corpus):
    def case(name, fragment, value, good=False):
        folder = corpus.model(f"generation-{name}", fragment, good=good)
        if value is not None:
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            (folder / "generation_config.json").write_bytes(data)
        else:
            (folder / "generation_config.json").unlink()

    for name, eos in (("too-large", 320), ("negative", -1), ("2-to-32", 2**32), ("string", "256"),
                      ("fraction", 1.5), ("true", True)):
        case(f"eos-{name}", "eos_token_id: is ", {"eos_token_id": eos})
        changed(corpus, f"eos-{name}", "eos_token_id: is ", eos_token_id=eos)
    case("eos-list-too-large", "eos_token_id: item 1", {"eos_token_id": [256, 320]})
    case("eos-million", "eos_token_id: item 1024", {"eos_token_id": [256] * 1_000_000})
    case("empty", "is empty", b"")
    case("list", "a JSON object is needed", [])
    case("cut", "not valid JSON", b'{"eos_token_id": 25')
    for key, bad in (("temperature", -1), ("temperature", "1"), ("temperature", 1e300),
                     ("top_p", 0), ("top_p", 1.5), ("top_p", True), ("top_k", -1), ("top_k", 2.5),
                     ("top_k", 2**40), ("min_p", 2), ("repetition_penalty", 0),
                     ("repetition_penalty", -1), ("do_sample", 1)):
        case(f"{key}-{bad}", f"{key}: is ", {key: bad})
    case("key-twice", '"top_k" appears twice', b'{"top_k":1,"top_k":2}')
    case("legal-absent", SUMMARY, None, good=True)
    case("legal-list", SUMMARY, {"eos_token_id": [256, 258], "temperature": 0.7, "top_k": 20,
                                 "do_sample": True, "transformers_version": "4.51.0"}, good=True)
