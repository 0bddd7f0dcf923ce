#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes golden plans and attention outputs for random queries, keys and values.

An implementation of docs/spec/routing.md in NumPy that shares nothing with the C++ code. Summaries
follow the specification's float32 arithmetic bit for bit; everything after them is float64.

    tools/golden_routing.py [--out tests/golden/data/routing]
"""
import argparse
import hashlib
import json
import math
import pathlib

import numpy as np

SEED = 20260101
HEADS, KV_HEADS, HEAD_DIM, TOKENS = 4, 2, 64, 2500
THETA = 1e7
POSITIONS = [3, 700, 703, 704, 1000, 1535, 1536, 2047, 2048, 2303, 2432, 2495, 2498, 2499]
CHUNK = 64

BASE = dict(group=8, key_span=4, chunk_key_span=16, value_span=16, sink_chunks=2, local_chunks=8,
            groups_budget=128, chunk_beam=0, beam_share=0.25, tail=True, trust=16.0,
            key_mean='rotated', scope='kv_head', summary_dtype='fp8')
PRESETS = {
    'default': {},
    'exact': dict(tail=False),
    'fine': dict(group=4, groups_budget=256),
    'half': dict(groups_budget=64),
    'sparse': {},
    'long': dict(chunk_beam=256),
    'paper': dict(group=16, key_span=16, chunk_key_span=64, key_mean='mixed_rope',
                  scope='query_head', chunk_beam=16, beam_share=0.0, groups_budget=64, tail=False),
    'window': dict(groups_budget=0, tail=False),
}
OTHERS = {
    'beam with tail': dict(chunk_beam=4, groups_budget=24),
    'query head with tail': dict(scope='query_head', groups_budget=24),
    'bf16 summaries, no windows': dict(summary_dtype='bf16', sink_chunks=0, local_chunks=0,
                                       groups_budget=40),
    'mixed rope with tail, beam of one': dict(key_mean='mixed_rope', chunk_beam=1, beam_share=0.0,
                                              groups_budget=5),
    'tail alone': dict(groups_budget=0, local_chunks=1),
    'groups of 64': dict(group=64, value_span=64, groups_budget=3, trust=0.0),
}
SAMPLED = {'sample of 1024': 1024, 'sample of 32': 32, 'sample of 1': 1}


def rule_of(changes):
    return {**BASE, **changes}


# --- number formats ----------------------------------------------------------------------------

def round_bf16(x):
    """Nearest bfloat16, ties to even, as float32. Finite input."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    low = bits & np.uint32(0xFFFF)
    up = (low > 0x8000) | ((low == 0x8000) & ((bits >> 16) & 1 == 1))
    return ((bits >> 16) + up.astype(np.uint32) << 16).astype(np.uint32).view(np.float32)


# The 127 magnitudes of E4M3 in order; the code of a magnitude is its index.
E4M3 = np.array([m * 2.0 ** -9 for m in range(8)] +
                [(8 + m) * 2.0 ** (e - 10) for e in range(1, 16) for m in range(8)][:-1])
assert len(E4M3) == 127 and E4M3[-1] == 448


def round_e4m3(x):
    """Nearest E4M3 value, ties to the even code, for |x| <= 448."""
    size = np.abs(np.asarray(x, np.float64))
    above = np.minimum(np.searchsorted(E4M3, size), 126)
    below = np.maximum(above - 1, 0)
    gap_below, gap_above = size - E4M3[below], E4M3[above] - size
    pick_above = (gap_above < gap_below) | ((gap_above == gap_below) & (above % 2 == 0))
    return np.copysign(np.where(pick_above, E4M3[above], E4M3[below]), x)


def fp8_exponent(largest):
    """n of the smallest 2^n with largest <= 448 * 2^n."""
    if largest == 0:
        return 0
    n = math.ceil(math.log2(largest / 448))
    while largest > 448 * 2.0 ** n:
        n += 1
    while largest <= 448 * 2.0 ** (n - 1):
        n -= 1
    return max(n, -126)


def stored(vectors, dtype):
    """[n, d] float32 means as they are kept and read back, float64."""
    if dtype == 'bf16':
        return round_bf16(vectors).astype(np.float64)
    out = np.empty(vectors.shape, np.float64)
    for i, row in enumerate(vectors.astype(np.float64)):
        scale = 2.0 ** fp8_exponent(float(np.abs(row).max()))
        out[i] = round_e4m3(row / scale) * scale
    return out


# --- summaries ---------------------------------------------------------------------------------

def span_means(rows, span):
    """[tokens, d] float32 -> [tokens / span, d]: float32 sums in token order, times 1/span."""
    split = rows.reshape(-1, span, rows.shape[1])
    total = np.zeros((split.shape[0], rows.shape[1]), np.float32)
    for t in range(span):
        total = total + split[:, t]
    return total * np.float32(1.0 / span)


def rotate(rows, positions, theta):
    """RoPE by the half-split pairs: angles in float64, products in float32."""
    half = rows.shape[1] // 2
    frequency = np.array([theta ** (-2 * i / rows.shape[1]) for i in range(half)])
    angle = np.asarray(positions, np.float64)[:, None] * frequency[None]
    cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    first, second = rows[:, :half], rows[:, half:]
    return np.hstack([first * cos - second * sin, second * cos + first * sin])


def key_means(keys, span, rule, theta):
    plain = span_means(keys, span)
    if rule['key_mean'] == 'rotated':
        return plain
    tokens, d = keys.shape
    unturned = rotate(keys, -np.arange(tokens), theta)
    middle = np.arange(0, tokens, span) + (span - 1) // 2
    slow = rotate(span_means(unturned, span), middle, theta)
    quick = [(CHUNK - 1) * theta ** (-2 * i / d) > 0.5 for i in range(d // 2)]
    return np.where(np.array(quick + quick)[None], plain, slow)


class KvHead:
    """Keys and values [tokens, d] of one KV head, with the summaries of its closed chunks."""

    def __init__(self, keys, values, rule, theta=THETA):
        self.rule, self.k, self.v = rule, keys.astype(np.float64), values.astype(np.float64)
        closed = len(keys) // CHUNK * CHUNK
        dtype = rule['summary_dtype']
        k, v = keys[:closed].astype(np.float32), values[:closed].astype(np.float32)
        self.group_keys = stored(key_means(k, rule['key_span'], rule, theta), dtype)
        if rule['tail']:
            self.group_values = stored(span_means(v, rule['value_span']), dtype)
        if rule['chunk_beam']:
            self.chunk_keys = stored(key_means(k, rule['chunk_key_span'], rule, theta), dtype)
            self.chunk_values = stored(span_means(v, CHUNK), dtype)


# --- the law -----------------------------------------------------------------------------------

def logsumexp(x, axis):
    top = np.max(x, axis=axis, keepdims=True)
    return np.squeeze(top + np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True)), axis)


def log_masses(q, means, span, items, per_item):
    """e [heads, len(items)] of items that own `per_item` consecutive means of `span` tokens."""
    index = (np.asarray(items)[:, None] * per_item + np.arange(per_item)).ravel()
    e = q @ means[index].T / math.sqrt(q.shape[1]) + math.log(span)
    return logsumexp(e.reshape(len(q), len(items), per_item), 2)


def ranked(score):
    """Indices by score descending, then index ascending, on float32 scores."""
    single = np.asarray(score, np.float64).astype(np.float32)
    return sorted(range(len(single)), key=lambda i: (-single[i], i))


def choose(score, count):
    """The `count` best, ascending; and the relative gap between the last and the first refused."""
    order = ranked(score)
    chosen, refused = order[:count], order[count:]
    margin = math.inf
    if chosen and refused:
        last, first = score[chosen[-1]], score[refused[0]]
        margin = float((last - first) / (last + first)) if last + first > 0 else 0.0
    return np.array(sorted(chosen), int), margin


def windows(t, rule):
    """Candidate chunks of the query at t."""
    return range(rule['sink_chunks'], max(t // CHUNK - rule['local_chunks'], rule['sink_chunks']))


class Plan:
    def __init__(self, head, q, t):
        """q [heads that select together, d]."""
        rule, self.head, self.q, self.t = head.rule, head, q, t
        chunks, self.margin = np.array(windows(t, rule), int), math.inf
        self.far, self.far_e = np.array([], int), np.zeros((len(q), 0))
        beam = max(rule['chunk_beam'], math.ceil(rule['beam_share'] * len(chunks)))
        if rule['chunk_beam'] and len(chunks) > beam:
            per = CHUNK // rule['chunk_key_span']
            e = log_masses(q, head.chunk_keys, rule['chunk_key_span'], chunks, per)
            share = np.exp(e - logsumexp(e, 1)[:, None]).sum(0)
            kept, self.margin = choose(share, beam)
            out = np.setdiff1d(np.arange(len(chunks)), kept)
            self.far, self.far_e, chunks = chunks[out], e[:, out], chunks[kept]
        per_chunk = CHUNK // rule['group']
        self.groups = np.array([c * per_chunk + j for c in chunks for j in range(per_chunk)], int)
        self.inside = np.array([], int)
        if len(self.groups):
            self.e = log_masses(q, head.group_keys, rule['key_span'], self.groups,
                                rule['group'] // rule['key_span'])
            total = logsumexp(np.hstack([self.e, self.far_e]), 1)
            self.share = np.exp(self.e - total[:, None]).sum(0)
            self.inside, margin = choose(self.share, rule['groups_budget'])
            self.margin = min(self.margin, margin)
        self.opened = self.groups[self.inside]


def softmax_over(q, head, tokens):
    """(log-mass, output, scores) of one query vector over real tokens."""
    if len(tokens) == 0:
        return -math.inf, np.zeros(head.v.shape[1]), np.zeros(0)
    x = head.k[tokens] @ q / math.sqrt(len(q))
    z = logsumexp(x, 0)
    return float(z), np.exp(x - z) @ head.v[tokens], x


def merged(za, oa, zb, ob):
    top = max(za, zb)
    a, b = math.exp(za - top), math.exp(zb - top)
    return (a * oa + b * ob) / (a + b)


def tokens_of(groups, size):
    return (np.asarray(groups)[:, None] * size + np.arange(size)).ravel().astype(int)


def fixed_tokens(t, rule):
    far = windows(t, rule)
    if len(far) == 0:
        return np.arange(t + 1)
    return np.concatenate([np.arange(far.start * CHUNK), np.arange(far.stop * CHUNK, t + 1)])


def tail_of(plan, i, opened_tokens):
    """(log-mass, corrected output) of what query vector i of the plan did not open."""
    rule, head = plan.head.rule, plan.head
    shut = np.setdiff1d(np.arange(len(plan.groups)), plan.inside)
    per_value = rule['value_span'] // rule['group']
    e = np.concatenate([plan.e[i, shut], plan.far_e[i]])
    if len(e) == 0:
        return -math.inf, 0.0
    values = head.group_values[plan.groups[shut] // per_value]
    if len(plan.far):
        values = np.vstack([values, head.chunk_values[plan.far]])
    zt = logsumexp(e, 0)
    ot = np.exp(e - zt) @ values
    if len(plan.opened):
        z, exact, x = softmax_over(plan.q[i], head, opened_tokens)
        w = np.exp(x - z).reshape(len(plan.opened), rule['group']).sum(1)
        n = 1 / (w * w).sum()
        eo = plan.e[i, plan.inside]
        said = np.exp(eo - logsumexp(eo, 0)) @ head.group_values[plan.opened // per_value]
        ot = ot + n / (n + rule['trust']) * (exact - said)
    return float(zt), ot


def routed(head, q, t):
    """Output [heads, d] and plan of queries that select together."""
    rule, plan = head.rule, Plan(head, q, t)
    opened = tokens_of(plan.opened, rule['group'])
    seen = np.concatenate([fixed_tokens(t, rule), opened])
    out = np.empty(q.shape)
    for i in range(len(q)):
        z, o, _ = softmax_over(q[i], head, seen)
        zt, ot = tail_of(plan, i, opened) if rule['tail'] and len(plan.groups) else (-math.inf, 0)
        out[i] = o if zt == -math.inf else merged(z, o, zt, ot)
    return out, plan


def sampled(head, q, t, most_cells):
    far = windows(t, head.rule)
    cells = len(far) * CHUNK // 8
    stride = 1
    while -(-cells // stride) > most_cells:
        stride *= 2
    sample = tokens_of(far.start * CHUNK // 8 + np.arange(0, cells, stride), 8)
    out = np.empty(q.shape)
    for i in range(len(q)):
        z, o, _ = softmax_over(q[i], head, fixed_tokens(t, head.rule))
        zs, os, _ = softmax_over(q[i], head, sample)
        lift = math.log(cells * 8 / len(sample)) if len(sample) else 0.0
        out[i] = o if not len(sample) else merged(z, o, zs + lift, os)
    return out


# --- files -------------------------------------------------------------------------------------

def random_case(rng):
    """Keys that walk, as after a norm; queries that each look for something of the past."""
    def walk(memory):
        x, rows = rng.standard_normal((KV_HEADS, HEAD_DIM)), []
        for _ in range(TOKENS):
            x = memory * x + math.sqrt(1 - memory ** 2) * rng.standard_normal(x.shape)
            rows.append(x)
        return round_bf16(np.array(rows, np.float32))
    k, v = walk(0.9), walk(0.7)
    q = 0.6 * rng.standard_normal((len(POSITIONS), HEADS, HEAD_DIM))
    for i, t in enumerate(POSITIONS):
        for h in range(HEADS):
            q[i, h] += rng.uniform(0, 1.2) * k[rng.integers(0, t + 1), h // (HEADS // KV_HEADS)]
    return round_bf16(q.astype(np.float32)), k, v


def bf16_bits(x):
    return (np.ascontiguousarray(x, np.float32).view(np.uint32) >> 16).astype(np.uint16)


class Writer:
    """Arrays as .npy beside a manifest that names them with their SHA-256."""

    def __init__(self, folder):
        self.folder, self.files = pathlib.Path(folder), {}
        self.folder.mkdir(parents=True, exist_ok=True)

    def put(self, name, array):
        path = self.folder / name
        np.save(path, np.ascontiguousarray(array))
        self.files[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        return name

    def finish(self, generator, **facts):
        manifest = dict(generator=generator, numpy=np.__version__, **facts, sha256=self.files)
        (self.folder / 'manifest.json').write_text(json.dumps(manifest, indent=1) + '\n')


def run_rule(rule, q, k, v):
    """Outputs, plans padded with -1 and margins of every golden query under one rule."""
    together = HEADS // KV_HEADS
    step = together if rule['scope'] == 'kv_head' else 1
    selectors = HEADS // step
    out = np.empty(q.shape, np.float64)
    plans = np.full((len(POSITIONS), selectors, max(rule['groups_budget'], 1)), -1, np.int32)
    margins = np.full((len(POSITIONS), selectors), np.inf)
    for g in range(KV_HEADS):
        head = KvHead(k[:, g], v[:, g], rule)
        for i, t in enumerate(POSITIONS):
            for h in range(g * together, (g + 1) * together, step):
                out[i, h:h + step], plan = routed(head, q[i, h:h + step].astype(np.float64), t)
                plans[i, h // step, :len(plan.opened)] = plan.opened
                margins[i, h // step] = plan.margin
    return out.astype(np.float32), plans, margins


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--out', default=str(pathlib.Path(__file__).resolve().parent.parent /
                                             'tests/golden/data/routing'))
    writer = Writer(parser.parse_args().out)
    q, k, v = random_case(np.random.default_rng(SEED))
    writer.put('q.npy', bf16_bits(q))
    writer.put('k.npy', bf16_bits(k))
    writer.put('v.npy', bf16_bits(v))
    rules = []
    for name, changes in {**PRESETS, **OTHERS}.items():
        rule, number = rule_of(changes), len(rules)
        out, plans, margins = run_rule(rule, q, k, v)
        rules.append(dict(name=name, preset=name in PRESETS, rule=rule,
                          out=writer.put(f'rule{number}_out.npy', out),
                          plan=writer.put(f'rule{number}_plan.npy', plans),
                          margin=writer.put(f'rule{number}_margin.npy', margins)))
        print(f'{name}: smallest margin {margins.min():.3g}, |out| {np.abs(out).max():.3g}')
    samples = []
    for name, most in SAMPLED.items():
        out, together = np.empty(q.shape), HEADS // KV_HEADS
        for g in range(KV_HEADS):
            head = KvHead(k[:, g], v[:, g], rule_of({}))
            for i, t in enumerate(POSITIONS):
                mine = slice(g * together, (g + 1) * together)
                out[i, mine] = sampled(head, q[i, mine].astype(np.float64), t, most)
        samples.append(dict(name=name, most_cells=most, sink_chunks=2, local_chunks=8,
                            out=writer.put(f'sample{most}_out.npy', out.astype(np.float32))))
    writer.finish('tools/golden_routing.py', seed=SEED, heads=HEADS, kv_heads=KV_HEADS,
                  head_dim=HEAD_DIM, tokens=TOKENS, rope_theta=THETA, positions=POSITIONS,
                  rules=rules, samples=samples)


if __name__ == '__main__':
    main()
