#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes golden logits of models/hga-mini for a passage of public-domain prose.

A Qwen3-MoE forward pass in NumPy that shares nothing with the C++ code; routed attention comes from
tools/golden_routing.py. Needs numpy and tokenizers. Every case runs twice, with float64 and with
float32 activations: the first run is the golden one, the distance between the two shows how far
roundings alone move the logits and is stored beside them as `spread`.

    tools/golden_forward.py [--model models/hga-mini] [--out tests/golden/data/logits]
"""
import argparse
import json
import pathlib
import struct

import numpy as np
import tokenizers

import golden_routing as law

ROOT = pathlib.Path(__file__).resolve().parent.parent
DENSE_TOKENS, ROUTED_TOKENS = 256, 1500
DENSE_EVERY, ROUTED_EVERY, ROUTED_LAST = 8, 47, 24
ROUTED_RULE = dict(sink_chunks=1, local_chunks=1, groups_budget=8)


class Checkpoint:
    """Tensors of one safetensors file, widened to `dtype`."""

    def __init__(self, folder, dtype):
        folder = pathlib.Path(folder)
        self.config = json.loads((folder / 'config.json').read_text())
        blob = (folder / 'model.safetensors').read_bytes()
        length = struct.unpack_from('<Q', blob)[0]
        self.header = json.loads(blob[8:8 + length])
        self.blob, self.base, self.dtype, self.cache = blob, 8 + length, dtype, {}

    def stored(self, name):
        entry = self.header[name]
        begin, end = entry['data_offsets']
        raw = np.frombuffer(self.blob, np.uint8, end - begin, self.base + begin)
        if entry['dtype'] == 'F8_E4M3':
            table = np.concatenate([law.E4M3, [np.nan], -law.E4M3, [np.nan]])
            values = table[raw].astype(np.float32)
        elif entry['dtype'] == 'BF16':
            values = (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        else:
            values = raw.view(np.float32)
        return values.reshape(entry['shape'])

    def __call__(self, name):
        """A weight as the specification counts it: float32(stored value x block scale)."""
        if name not in self.cache:
            w = self.stored(name)
            if name + '_scale_inv' in self.header:
                scale = self.stored(name + '_scale_inv')
                blocks = np.repeat(np.repeat(scale, 128, 0), 128, 1)
                w = w * blocks[:w.shape[0], :w.shape[1]]
            self.cache[name] = w.astype(self.dtype)
        return self.cache[name]


def rms_norm(x, weight, epsilon):
    return x / np.sqrt(np.mean(np.square(x), -1, keepdims=True) + epsilon) * weight


def turned(x, positions, theta):
    """RoPE on [tokens, heads, d]."""
    half = x.shape[-1] // 2
    frequency = np.array([theta ** (-i / half) for i in range(half)])
    angle = positions[:, None, None] * frequency
    cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    first, second = x[..., :half], x[..., half:]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], -1)


def dense_attention(q, k, v):
    """[tokens, heads, d] and [tokens, kv_heads, d], float64, causal."""
    tokens, heads, d = q.shape
    out, mask = np.empty(q.shape), np.triu(np.full((tokens, tokens), -np.inf), 1)
    for h in range(heads):
        g = h // (heads // k.shape[1])
        x = q[:, h] @ k[:, g].T / np.sqrt(d) + mask
        x = np.exp(x - x.max(-1, keepdims=True))
        out[:, h] = x @ v[:, g] / x.sum(-1, keepdims=True)
    return out


def routed_attention(q, k, v, rule, theta):
    """Dense while a query has no candidates, then query by query."""
    tokens, heads, _ = q.shape
    near = (rule['sink_chunks'] + rule['local_chunks'] + 1) * law.CHUNK
    out, together = np.empty(q.shape), heads // k.shape[1]
    out[:near] = dense_attention(q[:near], k[:near], v[:near])
    for g in range(k.shape[1]):
        head = law.KvHead(k[:, g], v[:, g], rule, theta)
        mine = slice(g * together, (g + 1) * together)
        for t in range(near, tokens):
            out[t, mine] = law.routed(head, q[t, mine], t)[0]
    return out


def feed_forward(x, weight, prefix, config):
    logits = (x @ weight(prefix + 'mlp.gate.weight').T).astype(np.float64)
    share = np.exp(logits - logits.max(-1, keepdims=True))
    share /= share.sum(-1, keepdims=True)
    best = np.argsort(-share, -1, kind='stable')[:, :config['num_experts_per_tok']]
    out = np.zeros_like(x)
    for expert in range(config['num_experts']):
        rows, rank = np.nonzero(best == expert)
        if not len(rows):
            continue
        gate_w, up_w, down_w = (weight(f'{prefix}mlp.experts.{expert}.{n}_proj.weight')
                                for n in ('gate', 'up', 'down'))
        gate = x[rows] @ gate_w.T
        y = (gate / (1 + np.exp(-gate)) * (x[rows] @ up_w.T)) @ down_w.T
        chosen = np.take_along_axis(share[rows], best[rows], 1)
        factor = share[rows, best[rows, rank]] / (chosen.sum(1) if config['norm_topk_prob'] else 1)
        out[rows] += y * factor[:, None].astype(x.dtype)
    return out


def forward(checkpoint, ids, attend, wanted):
    """Logits [len(wanted), vocab]; attend(layer, q, k, v)."""
    config, w = checkpoint.config, checkpoint
    d, epsilon, tokens = config['head_dim'], config['rms_norm_eps'], len(ids)
    x = w('model.embed_tokens.weight')[ids]
    for layer in range(config['num_hidden_layers']):
        prefix = f'model.layers.{layer}.'
        h = rms_norm(x, w(prefix + 'input_layernorm.weight'), epsilon)
        q, k, v = ((h @ w(f'{prefix}self_attn.{n}_proj.weight').T).reshape(tokens, -1, d)
                   for n in 'qkv')
        positions, theta = np.arange(tokens, dtype=np.float64), config['rope_theta']
        q = turned(rms_norm(q, w(prefix + 'self_attn.q_norm.weight'), epsilon), positions, theta)
        k = turned(rms_norm(k, w(prefix + 'self_attn.k_norm.weight'), epsilon), positions, theta)
        q, k, v = (law.round_bf16(y.astype(np.float32)).astype(np.float64) for y in (q, k, v))
        o = attend(layer, q, k, v).reshape(tokens, -1).astype(x.dtype)
        x = x + o @ w(prefix + 'self_attn.o_proj.weight').T
        x = x + feed_forward(rms_norm(x, w(prefix + 'post_attention_layernorm.weight'), epsilon), w,
                             prefix, config)
    x = rms_norm(x, w('model.norm.weight'), epsilon)[wanted]
    head = 'model.embed_tokens.weight' if config['tie_word_embeddings'] else 'lm_head.weight'
    return x @ w(head).T


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--model', default=str(ROOT / 'models/hga-mini'))
    parser.add_argument('--out', default=str(ROOT / 'tests/golden/data/logits'))
    options = parser.parse_args()
    folder = pathlib.Path(options.out)
    encoder = tokenizers.Tokenizer.from_file(options.model + '/tokenizer.json')
    ids = np.array(encoder.encode((folder / 'passage.txt').read_text()).ids)[:ROUTED_TOKENS]
    assert len(ids) == ROUTED_TOKENS, f'the passage has {len(ids)} tokens, needs {ROUTED_TOKENS}'
    rule = law.rule_of(ROUTED_RULE)
    theta = Checkpoint(options.model, np.float64).config['rope_theta']
    cases = {
        'dense': (DENSE_TOKENS, np.arange(DENSE_EVERY - 1, DENSE_TOKENS, DENSE_EVERY),
                  lambda layer, q, k, v: dense_attention(q, k, v)),
        'routed': (ROUTED_TOKENS, ROUTED_TOKENS - 1 - ROUTED_EVERY * np.arange(ROUTED_LAST)[::-1],
                   lambda layer, q, k, v: dense_attention(q, k, v) if layer == 0 else
                   routed_attention(q, k, v, rule, theta)),
    }
    writer, entries = law.Writer(folder), []
    writer.put('ids.npy', ids.astype(np.int32))
    for name, (count, wanted, attend) in cases.items():
        exact, single = (forward(Checkpoint(options.model, t), ids[:count], attend, wanted)
                         for t in (np.float64, np.float32))
        spread = np.abs(exact - single).max(-1)
        print(f'{name}: spread {spread.max():.3g}, median {np.median(spread):.3g}, '
              f'|logit| {np.abs(exact).max():.3g}', flush=True)
        routed = name == 'routed'
        entries.append(dict(name=name, tokens=count, dense_layers=[0] if routed else 'all',
                            rule=rule if routed else None,
                            positions=[int(p) for p in wanted],
                            spread=[float(s) for s in spread],
                            logits=writer.put(f'{name}_logits.npy', exact.astype(np.float32))))
    writer.finish('tools/golden_forward.py', model='hga-mini', cases=entries,
                  passage='passage.txt: George Eliot, Middlemarch (1871), public domain')


if __name__ == '__main__':
    main()
