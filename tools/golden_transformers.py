#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Records logits of every tiny checkpoint as Hugging Face `transformers` computes them.

The checkpoints are those of `make_tiny_checkpoint.py --all` and a few of other shapes; they are not
stored, their bytes are recorded as a SHA-256. transformers runs in float32 with eager attention on
queries, keys and values rounded to bf16 behind norm and RoPE, as this engine keeps them. It reads
BF16, F16 and F32 checkpoints as they lie; of FP8 ones it gets a float32 copy with each stored value
times its block's scale.

Two float32 runs of one model differ by how they round and order their sums, and by entries of q, k
and v that this tips over a bf16 tie. How far that may move a logit is found by moving every weight
at random within the a-priori relative error of the sum it belongs to, for both sides together:
2 n 2^-24 for n terms. The largest difference of SAMPLES such runs is a checkpoint's `bound`.

Needs numpy, torch and transformers 5.

    tools/golden_transformers.py [--out tests/golden/data/transformers]
"""
import argparse
import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOKENS, SAMPLES, SEED = 24, 3, 20240611
ROWS = list(range(2, TOKENS, 3))  # positions whose logits are stored
MARGIN = 2.0**-8  # least distance of a chosen expert's logit from one left out
EXTRA = {  # other shapes, and what `--all` has only one value of
    "extra-dense-layer": ("--layers 3 --mlp-only-layers 1 --odd-address --seed 201", {}),
    "extra-groups-of-four": ("--family qwen3 --dtype f16 --heads 8 --head-dim 128 --seed 202", {}),
    "extra-four-of-sixteen": ("--experts 16 --experts-per-token 4 --tied --seed 203", {}),
    "extra-shares-as-they-are": ("--dtype bf16 --spelling new --seed 204",
                                 {"norm_topk_prob": False}),
}


def make_checkpoints(out):
    """Writes all checkpoints below `out`; {name: folder}."""
    tool = [sys.executable, str(ROOT / "tools/make_tiny_checkpoint.py")]
    subprocess.run([*tool, str(out), "--all"], check=True, stdout=subprocess.DEVNULL)
    names = list(json.loads((out / "manifest.json").read_text(encoding="utf-8")))
    for name, (arguments, changes) in EXTRA.items():
        subprocess.run([*tool, str(out / name), *arguments.split()], check=True)
        config = json.loads((out / name / "config.json").read_text(encoding="utf-8"))
        (out / name / "config.json").write_text(json.dumps(config | changes), encoding="utf-8")
    return {name: out / name for name in [*names, *EXTRA]}


def digest(folder):
    """SHA-256 over the names and bytes of config.json and the weights."""
    total = hashlib.sha256()
    for path in sorted([folder / "config.json", *folder.glob("model*.safetensors*")]):
        data = path.read_bytes()
        total.update(f"{path.name} {len(data)}\n".encode() + data)
    return total.hexdigest()


def float32_copy(folder, out):
    """The checkpoint with FP8 weights multiplied out and no quantisation in its config."""
    import safetensors.torch
    stored = {}
    for path in folder.glob("*.safetensors"):
        stored |= safetensors.torch.load_file(path)
    plain = {}
    for name, tensor in stored.items():
        if name.endswith("_scale_inv"):
            continue
        tensor = tensor.float()
        if name + "_scale_inv" in stored:
            scale = stored[name + "_scale_inv"].float()
            scale = scale.repeat_interleave(128, 0).repeat_interleave(128, 1)
            tensor = tensor * scale[:tensor.shape[0], :tensor.shape[1]]
        plain[name] = tensor.contiguous()
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    del config["quantization_config"]
    safetensors.torch.save_file(plain, out / "model.safetensors", {"format": "pt"})
    (out / "config.json").write_text(json.dumps(config), encoding="utf-8")


def register_rounded_attention():
    import torch
    import transformers
    from transformers.masking_utils import eager_mask
    from transformers.models.qwen3.modeling_qwen3 import eager_attention_forward

    def rounded(module, query, key, value, mask, **options):
        query, key, value = (x.to(torch.bfloat16).to(x.dtype) for x in (query, key, value))
        return eager_attention_forward(module, query, key, value, mask, **options)

    transformers.AttentionInterface.register("bf16_rounded", rounded)
    transformers.AttentionMaskInterface.register("bf16_rounded", eager_mask)


class Oracle:
    """One checkpoint in transformers."""

    def __init__(self, folder):
        import torch
        import transformers
        torch.set_num_threads(1)
        self.torch = torch
        register_rounded_attention()
        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        fp8 = "quantization_config" in (folder / "config.json").read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as copy:
            if fp8:
                float32_copy(folder, pathlib.Path(copy))
            self.model, report = transformers.AutoModelForCausalLM.from_pretrained(
                copy if fp8 else folder, dtype=torch.float32, attn_implementation="bf16_rounded",
                experts_implementation="eager", output_loading_info=True)
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            assert not report[kind], f"{folder.name}: {kind} {report[kind]}"
        self.model.eval()
        self.margin = np.inf
        for module in self.model.modules():
            if type(module).__name__.endswith("TopKRouter"):
                module.register_forward_hook(self.note_margin)

    def note_margin(self, router, inputs, _):
        logits = inputs[0].reshape(-1, router.weight.shape[1]) @ router.weight.T
        ranked = logits.sort(-1, descending=True).values
        count = self.model.config.num_experts_per_tok
        margin = (ranked[:, count - 1] - ranked[:, count]).min().item()
        self.margin = min(self.margin, margin)

    def logits(self, ids):
        """float32 [tokens, vocab]"""
        batch = self.torch.from_numpy(ids.astype(np.int64))[None]
        with self.torch.no_grad():
            return self.model(batch, use_cache=False).logits[0].float().numpy()

    def draw_ids(self, random):
        """Token ids at which no choice of experts hangs on a rounding."""
        for _ in range(100):
            ids = random.integers(0, self.model.config.vocab_size, TOKENS).astype(np.int32)
            self.margin = np.inf
            self.logits(ids)
            if self.margin >= MARGIN:
                return ids, self.margin
        raise AssertionError(f"no ids with a margin of {MARGIN}")

    def bound(self, ids):
        """How far roundings may move a logit (see above)."""
        torch, golden, worst = self.torch, self.logits(ids), 0.0
        weights = [(p, p.detach().clone()) for p in self.model.parameters()]
        generator = torch.Generator().manual_seed(SEED)
        for _ in range(SAMPLES):
            for parameter, exact in weights:
                within = 2 * exact.shape[-1] * 2.0**-24
                noise = torch.rand(exact.shape, generator=generator) * 2 - 1
                parameter.data = exact + exact * (within * noise)
            worst = max(worst, float(np.abs(self.logits(ids) - golden).max()))
        for parameter, exact in weights:
            parameter.data = exact
        return worst


def record(out, folders):
    import torch
    import transformers
    random, all_ids, all_logits, entries = np.random.default_rng(SEED), [], [], []
    for name, folder in folders.items():
        oracle = Oracle(folder)
        ids, margin = oracle.draw_ids(random)
        logits, bound = oracle.logits(ids)[ROWS], oracle.bound(ids)
        all_ids.append(ids)
        all_logits.append(logits)
        rms = float(np.sqrt(np.mean(np.square(logits))))
        assert bound < rms / 20, f"{name}: a bound of {bound} says little about logits of {rms}"
        entries.append(dict(name=name, sha256=digest(folder), bound=bound, rms=rms,
                            margin=margin if np.isfinite(margin) else None))
        print(f"{name}: rms {rms:.3g}, bound {bound:.3g}, margin {margin:.3g}", flush=True)
    out.mkdir(parents=True, exist_ok=True)
    arrays = {"ids.npy": np.stack(all_ids), "logits.npy": np.stack(all_logits)}
    for name, array in arrays.items():
        np.save(out / name, array)
    manifest = dict(
        generator="tools/golden_transformers.py", numpy=np.__version__, torch=torch.__version__,
        transformers=transformers.__version__, seed=SEED, samples=SAMPLES, positions=ROWS,
        sha256={n: hashlib.sha256((out / n).read_bytes()).hexdigest() for n in arrays},
        checkpoints=entries)
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=pathlib.Path,
                        default=ROOT / "tests/golden/data/transformers")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        record(options.out, make_checkpoints(pathlib.Path(folder)))


if __name__ == "__main__":
    main()
