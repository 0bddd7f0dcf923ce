// SPDX-License-Identifier: Apache-2.0
// A random sequence for the attention tests: structured keys in cells, queries with strong matches,
// summaries, plans and tails, each in watched buffers.
#ifndef HGA_TESTS_CONFORMANCE_ATTENTION_FIXTURE_H_
#define HGA_TESTS_CONFORMANCE_ATTENTION_FIXTURE_H_

#include <algorithm>
#include <string>
#include <vector>

#include "spec/layout.h"
#include "spec/rules.h"
#include "spec/visibility.h"
#include "tests/conformance/fixtures.h"

namespace hga::conformance {

inline constexpr double kRopeTheta = 1e7;

// Keys and values of one layer of one sequence. Keys walk randomly with a root mean square of 1,
// as after a norm. Cells lie in a shuffled order, so that only the table finds them.
class History {
 public:
  History(const HeadShape& shape, int64_t tokens, uint64_t seed) : History(shape, tokens) {
    Random random(seed);
    for (int g = 0; g < shape.kv_heads; ++g) Walk(g, random);
  }
  // Given keys and values: [tokens][kv_heads][head_dim] each.
  History(const HeadShape& shape, int64_t tokens, const Bf16* keys, const Bf16* values)
      : History(shape, tokens) {
    for (int64_t t = 0; t < tokens; ++t) {
      for (int g = 0; g < shape.kv_heads; ++g) {
        const int64_t row = (t * shape.kv_heads + g) * shape.head_dim;
        std::copy_n(keys + row, shape.head_dim, Key(g, t));
        std::copy_n(values + row, shape.head_dim, Value(g, t));
        Measure(g, t);
      }
    }
  }

  KvView view() const { return {table_.data(), cells_}; }
  int64_t tokens() const { return tokens_; }
  const HeadShape& shape() const { return shape_; }
  Bf16* Key(int g, int64_t t) { return Cell(g, t) + spec::KeyRow(t % 8, shape_.head_dim); }
  Bf16* Value(int g, int64_t t) { return Cell(g, t) + spec::ValueRow(t % 8, shape_.head_dim); }
  double key_norm() const { return key_norm_; }      // largest Euclidean norm
  double value_size() const { return value_size_; }  // largest magnitude of an element

  // New keys and values for every token from `begin` on; only `fill` if given.
  void Rewrite(int64_t begin, uint64_t seed, const Bf16* fill = nullptr) {
    Random random(seed);
    for (int g = 0; g < shape_.kv_heads; ++g) {
      for (int64_t t = begin; t < cells_ * spec::kCell; ++t) {
        for (int i = 0; i < shape_.head_dim; ++i) {
          Key(g, t)[i] = fill ? *fill : FloatToBf16(random.Normal());
          Value(g, t)[i] = fill ? *fill : FloatToBf16(random.Normal());
        }
      }
    }
  }

  // Queries for positions [first, first + n): noise plus, for most, a key of the past.
  std::vector<float> Queries(int64_t first, int64_t n, uint64_t seed) {
    Random random(seed);
    std::vector<float> q;
    for (int64_t query = 0; query < n; ++query) {
      for (int h = 0; h < shape_.heads; ++h) {
        const Bf16* key = Key(h / shape_.queries_per_kv(), random.Below(first + query + 1));
        const float match = static_cast<float>(random.Uniform() * 1.2);
        for (int i = 0; i < shape_.head_dim; ++i) {
          const float x = 0.6f * random.Normal() + match * Bf16ToFloat(key[i]);
          q.push_back(Bf16ToFloat(FloatToBf16(x)));
        }
      }
    }
    return q;
  }

 private:
  // Empty cells and their table.
  History(const HeadShape& shape, int64_t tokens)
      : shape_(shape), tokens_(tokens), cells_(spec::CeilDiv(tokens, spec::kCell)) {
    Random random(1);
    const int64_t total = shape.kv_heads * cells_, size = spec::CellElements(shape.head_dim);
    storage_.assign(total * size, 0);
    std::vector<int64_t> place(total);
    for (int64_t i = 0; i < total; ++i) {
      place[i] = i;
      std::swap(place[i], place[random.Below(i + 1)]);
    }
    for (int64_t i = 0; i < total; ++i) table_.push_back(storage_.data() + place[i] * size);
  }
  Bf16* Cell(int g, int64_t t) { return const_cast<Bf16*>(table_[g * cells_ + t / spec::kCell]); }
  void Walk(int g, Random& random) {
    const int d = shape_.head_dim;
    std::vector<float> key = random.Normals(d), value = random.Normals(d);
    for (int64_t t = 0; t < cells_ * spec::kCell; ++t) {
      for (int i = 0; i < d; ++i) {
        key[i] = 0.9f * key[i] + 0.436f * random.Normal();
        value[i] = 0.7f * value[i] + 0.714f * random.Normal();
        Key(g, t)[i] = FloatToBf16(key[i]);
        Value(g, t)[i] = FloatToBf16(value[i]);
      }
      Measure(g, t);
    }
  }
  void Measure(int g, int64_t t) {
    double squares = 0;
    for (int i = 0; i < shape_.head_dim; ++i) {
      const double key = Bf16ToFloat(Key(g, t)[i]), value = Bf16ToFloat(Value(g, t)[i]);
      squares += key * key;
      value_size_ = std::max(value_size_, std::fabs(value));
    }
    key_norm_ = std::max(key_norm_, std::sqrt(squares));
  }

  HeadShape shape_;
  int64_t tokens_, cells_;
  std::vector<Bf16> storage_;
  std::vector<const Bf16*> table_;  // [kv_heads][cells]
  double key_norm_ = 0, value_size_ = 0;
};

// Summaries of every closed chunk under a rule. Capacities exceed what is used, so that a wrong
// stride shows.
class Summaries {
 public:
  Summaries(Ops& ops, History& history, const RoutingConfig& rule)
      : shape_(history.shape()),
        rule_(rule),
        closed_(history.tokens() / spec::kChunk),
        chunks_(closed_ + 3),
        key_means_(Padded(chunks_ * spec::KeyMeansPerChunk(rule))),
        value_means_(chunks_ * spec::ValueMeansPerChunk(rule)),
        chunk_means_(Padded(chunks_ * spec::ChunkMeansPerChunk(rule))),
        keys(Bytes(key_means_)),
        values(Bytes(value_means_)),
        chunk_keys(Bytes(chunk_means_)),
        chunk_values(rule.chunk_beam > 0 && rule.tail ? Bytes(chunks_) : 0),
        key_scales(shape_.kv_heads * key_means_),
        value_scales(shape_.kv_heads * value_means_),
        chunk_key_scales(shape_.kv_heads * chunk_means_),
        chunk_value_scales(chunk_values.size() > 0 ? shape_.kv_heads * chunks_ : 0) {
    if (spec::NeedsSummaries(rule)) {
      for (int64_t c = 0; c < closed_; ++c) Build(ops, history, c);
    }
  }

  void Build(Ops& ops, History& history, int64_t chunk) {
    std::vector<const Bf16*> cells;
    for (int g = 0; g < shape_.kv_heads; ++g) {
      for (int64_t t = 0; t < spec::kChunk; t += spec::kCell) {
        cells.push_back(history.Key(g, chunk * spec::kChunk + t));
      }
    }
    SummariseParams p;
    p.shape = shape_;
    p.rule = &rule_;
    p.rope_theta = kRopeTheta;
    p.chunk = chunk;
    p.cells = cells.data();
    p.out = view();
    ops.Summarise(p);
  }

  SummaryView view() {
    SummaryView v;
    v.keys = keys.data();
    v.key_scales = key_scales.data();
    v.key_means = key_means_;
    if (rule_.tail) {
      v.values = values.data();
      v.value_scales = value_scales.data();
      v.value_means = value_means_;
    }
    if (rule_.chunk_beam > 0) {
      v.chunk_keys = chunk_keys.data();
      v.chunk_key_scales = chunk_key_scales.data();
      v.chunk_key_means = chunk_means_;
    }
    if (chunk_values.size() > 0) {
      v.chunk_values = chunk_values.data();
      v.chunk_value_scales = chunk_value_scales.data();
    }
    v.chunks = chunks_;
    return v;
  }

  bool Intact() const {
    return keys.Intact() && values.Intact() && chunk_keys.Intact() && chunk_values.Intact() &&
           key_scales.Intact() && value_scales.Intact() && chunk_key_scales.Intact() &&
           chunk_value_scales.Intact();
  }

 private:
  static int64_t Padded(int64_t means) { return spec::CeilDiv(means, 16) * 16; }
  int64_t Bytes(int64_t means) const {
    return shape_.kv_heads * means * shape_.head_dim *
           (rule_.summary_dtype == SummaryDtype::kFp8 ? 1 : 2);
  }

  HeadShape shape_;
  RoutingConfig rule_;
  int64_t closed_, chunks_, key_means_, value_means_, chunk_means_;

 public:
  Guarded<uint8_t> keys, values, chunk_keys, chunk_values;
  Guarded<float> key_scales, value_scales, chunk_key_scales, chunk_value_scales;
};

// A plan and its tail for some consecutive queries.
struct Routed {
  Routed(const HeadShape& shape, const RoutingConfig& rule, int queries)
      : selectors(spec::Selectors(rule, shape.heads, shape.kv_heads)),
        budget(rule.groups_budget),
        queries(queries),
        groups(int64_t{queries} * selectors * budget),
        counts(int64_t{queries} * selectors),
        tail(rule.tail ? int64_t{queries} * shape.heads * TailLayout::Width(shape.head_dim) : 0) {}
  PlanView plan(int64_t first = 0) {
    return {groups.data() + first * selectors * budget, counts.data() + first * selectors,
            selectors, budget};
  }
  std::vector<int32_t> Opened(int64_t query, int selector) const {
    const int64_t slot = query * selectors + selector;
    const int32_t* begin = groups.data() + slot * budget;
    return {begin, begin + counts.data()[slot]};
  }
  bool Intact() const { return groups.Intact() && counts.Intact() && tail.Intact(); }

  int selectors, budget, queries;
  Guarded<int32_t> groups, counts;
  Guarded<float> tail;
};

inline RouteParams RouteOf(const HeadShape& shape, const RoutingConfig& rule, Summaries& summaries,
                           const std::vector<float>& q, int64_t first_position, Routed& routed,
                           int first = 0, int queries = -1) {
  RouteParams p;
  p.shape = shape;
  p.rule = &rule;
  p.q = q.data() + int64_t{first} * shape.heads * shape.head_dim;
  p.first_position = first_position + first;
  p.queries = queries < 0 ? routed.queries - first : queries;
  p.summaries = summaries.view();
  p.plan = routed.plan(first);
  if (rule.tail) {
    p.tail = routed.tail.data() + int64_t{first} * shape.heads * TailLayout::Width(shape.head_dim);
  }
  return p;
}

inline OpsLimits AttentionLimits(const HeadShape& shape, int rows, int64_t context) {
  OpsLimits limits = PlainLimits(rows, 64, 64);
  limits.shape = shape;
  limits.context = context;
  return limits;
}

// --- rules ------------------------------------------------------------------------------------

struct NamedRule {
  std::string name;
  RoutingConfig rule;
};

// Every preset's rule, and legal rules at the edges of what a configuration may say.
inline std::vector<NamedRule> AllRules() {
  std::vector<NamedRule> rules;
  for (std::string_view name : PresetNames()) {
    if (name != "dense") rules.push_back({std::string(name), PresetConfig(name)->routing});
  }
  const auto add = [&](const char* name, auto change) {
    RoutingConfig rule;
    rule.groups_budget = 24;
    change(rule);
    EXPECT_TRUE(Validate(rule).ok()) << name << ": " << Validate(rule).message();
    rules.push_back({name, rule});
  };
  add("no sink", [](RoutingConfig& r) { r.sink_chunks = 0; });
  add("no local window", [](RoutingConfig& r) { r.local_chunks = 0; });
  add("one local chunk", [](RoutingConfig& r) { r.local_chunks = 1; });
  add("no windows", [](RoutingConfig& r) { r.sink_chunks = r.local_chunks = 0; });
  add("budget of everything", [](RoutingConfig& r) { r.groups_budget = 4096; });
  add("budget 1", [](RoutingConfig& r) { r.groups_budget = 1; });
  add("budget 0 with tail", [](RoutingConfig& r) { r.groups_budget = 0; });
  add("groups of 64", [](RoutingConfig& r) { r.group = r.value_span = 64, r.groups_budget = 5; });
  add("groups of 1", [](RoutingConfig& r) { r.group = r.key_span = r.value_span = 1; });
  add("groups of 2, key span 1", [](RoutingConfig& r) { r.group = 2, r.key_span = 1; });
  add("value span 64", [](RoutingConfig& r) { r.value_span = 64; });
  add("value span = group", [](RoutingConfig& r) { r.value_span = 8; });
  add("key span = group", [](RoutingConfig& r) { r.key_span = 8; });
  add("groups of 32, key span 16",
      [](RoutingConfig& r) { r.group = r.value_span = 32, r.key_span = 16; });
  add("bf16 summaries", [](RoutingConfig& r) { r.summary_dtype = SummaryDtype::kBf16; });
  add("mixed rope", [](RoutingConfig& r) { r.key_mean = KeyMean::kMixedRope; });
  add("trust 0", [](RoutingConfig& r) { r.trust = 0; });
  add("query head with tail", [](RoutingConfig& r) { r.scope = SelectionScope::kQueryHead; });
  add("beam with tail", [](RoutingConfig& r) { r.chunk_beam = 2, r.sink_chunks = 1; });
  add("beam of one, no share",
      [](RoutingConfig& r) { r.chunk_beam = 1, r.beam_share = 0, r.chunk_key_span = 64; });
  add("beam, query head, bf16", [](RoutingConfig& r) {
    r.chunk_beam = 3, r.scope = SelectionScope::kQueryHead;
    r.summary_dtype = SummaryDtype::kBf16;
    r.chunk_key_span = 4;
  });
  add("beam without tail", [](RoutingConfig& r) { r.chunk_beam = 2, r.tail = false; });
  return rules;
}

// --- bounds -----------------------------------------------------------------------------------

// Largest Euclidean norm of the query vectors [..][head_dim].
inline double QueryNorm(const std::vector<float>& q, int head_dim) {
  double largest = 0;
  for (size_t i = 0; i < q.size(); i += head_dim) {
    double squares = 0;
    for (int j = 0; j < head_dim; ++j) squares += static_cast<double>(q[i + j]) * q[i + j];
    largest = std::max(largest, squares);
  }
  return std::sqrt(largest);
}

// Absolute error of a score s q.k: products of bf16 and bf16 or E4M3 are exact in float32, so the
// sum of head_dim terms (of magnitude at most |q| |k|, by Cauchy and Schwarz), the scales and the
// subtraction of a maximum round. A summary's norm exceeds the keys' by its rounding, 1/16.
inline double ScoreError(const History& history, const std::vector<float>& q) {
  const double d = history.shape().head_dim;
  const double size =
      QueryNorm(q, history.shape().head_dim) * 1.07 * history.key_norm() / std::sqrt(d);
  return (Gamma(d) + 6 * kUnit) * (size + std::log(64.0));
}

// Relative error of a sum of `terms` exponentials of such scores.
inline double MassError(double score_error, double terms) {
  return score_error + Gamma(terms) + 10 * kUnit;
}

}  // namespace hga::conformance

#endif  // HGA_TESTS_CONFORMANCE_ATTENTION_FIXTURE_H_
