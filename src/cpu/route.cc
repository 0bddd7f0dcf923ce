// SPDX-License-Identifier: Apache-2.0
// Routing as tasks: scan of the key means per segment, scores, selection, and the tail.
//
// Masses are kept relative to the maximum of their segment (8,192 tokens) and brought to one
// reference when segments are put together, so that segments can be scanned by different threads
// and the sums still come out in one order.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "cpu/cpu_ops.h"
#include "cpu/select.h"
#include "spec/layout.h"
#include "spec/rules.h"
#include "spec/visibility.h"

namespace hga::cpu {
namespace {

using spec::kChunk;
using spec::kSegmentTokens;

constexpr float kNone = -std::numeric_limits<float>::infinity();

// Per row and segment: the maximum its masses are relative to, their sum, and the factor that
// brings them to the row's reference.
struct Segment {
  float max, sum, factor;
};

// One query tile of one KV head, from queries to plan and tail.
class RouteTile {
 public:
  RouteTile(const CpuKernels& kernels, const HeadShape& shape, const RoutingConfig& rule,
            const SummaryView& summaries, RouteWorkspace& w)
      : kernels_(kernels), shape_(shape), rule_(rule), sum_(summaries), w_(w) {}

  // Returns false when the tile's queries have no candidates. What a tile knows beside its
  // workspace follows from these arguments alone.
  bool Begin(int64_t first_position, const QueryTile& tile, int kv_head);
  void Gather(const float* q) const { GatherQueries(shape_, q, tile_, kv_head_, w_.q.data()); }
  int segments() const { return static_cast<int>(last_segment_ - first_segment_); }
  // The first level: which chunks survive, per selector.
  void Beam(ThreadScratch& t);
  // Marks, by chunk from position 0, those that survive for any selector of the tile.
  void AddKept(uint8_t* kept) const;
  void ScanSegment(int index, ThreadScratch& t);
  void Combine();
  int selectors() const { return rows_ / rows_per_selector_; }  // of the whole tile
  // Scores of selector `s` over all candidate groups.
  void ScoresOf(int s, float* scores) const;
  // Chooses and notes the opened groups of selector `s`; with a tail, also what summaries say of
  // them, and takes them out of the tail.
  void Open(int s, const PlanView& plan, float* tail, ThreadScratch& t);
  void TailSegment(int index, ThreadScratch& t);
  void FinishTail(float* tail) const;

  const spec::TokenRange& range() const { return range_; }
  int64_t groups() const { return range_.size() / rule_.group; }

 private:
  Segment* SegmentOf(int row) const {
    return reinterpret_cast<Segment*>(w_.segment.data()) + int64_t{row} * segments();
  }
  Segment* ChunkSegmentOf(int row) const {
    return reinterpret_cast<Segment*>(w_.chunk_segment.data()) + int64_t{row} * segments();
  }
  // Candidate tokens of a segment.
  spec::TokenRange Tokens(int index) const {
    const int64_t first = (first_segment_ + index) * kSegmentTokens;
    return {std::max(range_.begin, first), std::min(range_.end, first + kSegmentTokens)};
  }
  float* Masses(int row) const { return w_.mass.data() + row * groups_; }  // from candidate 0
  float* ChunkMasses(int row) const { return w_.chunk_mass.data() + row * chunks_; }
  uint8_t* Kept(int selector) const { return w_.kept.data() + selector * chunks_; }
  bool beam() const { return kept_chunks_ < chunks_; }
  const void* OfHead(const void* base, int64_t elements) const {
    const int bytes = rule_.summary_dtype == SummaryDtype::kFp8 ? 1 : 2;
    return static_cast<const char*>(base) + kv_head_ * elements * bytes;
  }
  ScanArgs ScanOf(bool chunk_level, const spec::TokenRange& tokens, ThreadScratch& t) const;
  void Reference(int row, Segment* segments, Segment* chunk_segments);
  void Exclude(const spec::TokenRange& tokens, const ScanArgs& scan) const;
  // Where query `i`, head `h` of the tile has its tail.
  int64_t TailRow(int row) const {
    const int r = shape_.queries_per_kv();
    return (tile_.query + row / r) * int64_t{shape_.heads} + kv_head_ * r + row % r;
  }

  const CpuKernels& kernels_;
  const HeadShape& shape_;
  const RoutingConfig& rule_;
  const SummaryView& sum_;
  RouteWorkspace& w_;
  QueryTile tile_{};
  int kv_head_ = 0;
  int rows_ = 0;
  int rows_per_selector_ = 1;
  spec::TokenRange range_;
  int64_t groups_ = 0, chunks_ = 0, kept_chunks_ = 0;
  int64_t first_segment_ = 0, last_segment_ = 0;
};

bool RouteTile::Begin(int64_t first_position, const QueryTile& tile, int kv_head) {
  tile_ = tile;
  kv_head_ = kv_head;
  const int r = shape_.queries_per_kv();
  rows_ = tile.queries * r;
  rows_per_selector_ = rule_.scope == SelectionScope::kKvHead ? r : 1;
  range_ = spec::CandidateRange(first_position + tile.query, rule_.sink_chunks, rule_.local_chunks);
  if (range_.empty()) return false;
  groups_ = range_.size() / rule_.group;
  chunks_ = range_.size() / kChunk;
  kept_chunks_ = spec::BeamChunks(chunks_, rule_.chunk_beam, rule_.beam_share);
  first_segment_ = range_.begin / kSegmentTokens;
  last_segment_ = spec::CeilDiv(range_.end, kSegmentTokens);
  return true;
}

ScanArgs RouteTile::ScanOf(bool chunk_level, const spec::TokenRange& tokens,
                           ThreadScratch& t) const {
  const int span = chunk_level ? rule_.chunk_key_span : rule_.key_span;
  const int64_t capacity = chunk_level ? sum_.chunk_key_means : sum_.key_means;
  ScanArgs a;
  a.q = w_.q.data();
  a.rows = rows_;
  a.head_dim = shape_.head_dim;
  a.means = OfHead(chunk_level ? sum_.chunk_keys : sum_.keys,
                   spec::KeyMeanElements(capacity, shape_.head_dim));
  a.fp8 = rule_.summary_dtype == SummaryDtype::kFp8;
  a.scales = (chunk_level ? sum_.chunk_key_scales : sum_.key_scales) + kv_head_ * capacity;
  a.first = tokens.begin / span;
  a.last = tokens.end / span;
  a.softmax_scale = 1.0f / std::sqrt(static_cast<float>(shape_.head_dim));
  a.log_span = static_cast<float>(std::log(static_cast<double>(span)));
  a.e = t.e.data();
  a.e_stride = a.last - a.first;
  a.panel = t.panel.data();
  a.narrow = t.narrow.data();
  return a;
}

void RouteTile::Beam(ThreadScratch& t) {
  if (!beam()) return;
  const int per_chunk = kChunk / rule_.chunk_key_span;
  for (int i = 0; i < segments(); ++i) {
    const spec::TokenRange tokens = Tokens(i);
    const ScanArgs scan = ScanOf(true, tokens, t);
    kernels_.scan.scan(scan);
    for (int row = 0; row < rows_; ++row) {
      const MassResult m =
          kernels_.scan.masses(scan.e + row * scan.e_stride, scan.e_stride, per_chunk,
                               ChunkMasses(row) + (tokens.begin - range_.begin) / kChunk);
      ChunkSegmentOf(row)[i] = {m.max, m.sum, 0};
    }
  }
  for (int row = 0; row < rows_; ++row) Reference(row, ChunkSegmentOf(row), nullptr);
  float* scores = t.scores.data();
  int32_t* chosen = reinterpret_cast<int32_t*>(t.opened.data());
  for (int s = 0; s < selectors(); ++s) {
    for (int h = 0; h < rows_per_selector_; ++h) {
      const int row = s * rows_per_selector_ + h;
      float sum = 0;
      for (int i = 0; i < segments(); ++i) {
        sum += ChunkSegmentOf(row)[i].factor * ChunkSegmentOf(row)[i].sum;
      }
      for (int i = 0; i < segments(); ++i) {
        const int64_t first = (Tokens(i).begin - range_.begin) / kChunk;
        kernels_.scan.scaled(ChunkMasses(row) + first, Tokens(i).size() / kChunk,
                             ChunkSegmentOf(row)[i].factor / sum, h > 0, scores + first);
      }
    }
    Select(kernels_.scan, scores, chunks_, static_cast<int>(kept_chunks_), t.select(), chosen);
    std::memset(Kept(s), 0, static_cast<size_t>(chunks_));
    for (int64_t i = 0; i < kept_chunks_; ++i) Kept(s)[chosen[i]] = 1;
  }
}

void RouteTile::AddKept(uint8_t* kept) const {
  kept += range_.begin / kChunk;
  for (int s = 0; s < selectors(); ++s) {
    for (int64_t c = 0; c < chunks_; ++c) kept[c] |= beam() ? Kept(s)[c] : 1;
  }
}

// Minus infinity for the key means of chunks that a row's selector dropped.
void RouteTile::Exclude(const spec::TokenRange& tokens, const ScanArgs& scan) const {
  const int per_chunk = kChunk / rule_.key_span;
  const int64_t first = (tokens.begin - range_.begin) / kChunk;
  for (int row = 0; row < rows_; ++row) {
    const uint8_t* kept = Kept(row / rows_per_selector_) + first;
    float* e = scan.e + row * scan.e_stride;
    for (int64_t c = 0; c < tokens.size() / kChunk; ++c) {
      if (!kept[c]) std::fill_n(e + c * per_chunk, per_chunk, kNone);
    }
  }
}

void RouteTile::ScanSegment(int index, ThreadScratch& t) {
  const spec::TokenRange tokens = Tokens(index);
  ScanArgs scan = ScanOf(false, tokens, t);
  if (beam()) {
    // A panel is computed if any selector of the tile kept a chunk it covers.
    const int64_t first_panel = scan.first / spec::kPanel;
    const int64_t panels = spec::CeilDiv(scan.last, spec::kPanel) - first_panel;
    uint8_t* skip = w_.skip.data() + tokens.begin / rule_.key_span / spec::kPanel;
    std::memset(skip, 1, static_cast<size_t>(panels));
    const int64_t panel_tokens = int64_t{spec::kPanel} * rule_.key_span;
    for (int64_t token = tokens.begin; token < tokens.end; token += kChunk) {
      bool kept = false;
      for (int s = 0; s < selectors(); ++s) kept |= Kept(s)[(token - range_.begin) / kChunk] != 0;
      if (!kept) continue;
      const int64_t last = (token + kChunk - 1) / panel_tokens;
      for (int64_t p = token / panel_tokens; p <= last; ++p) skip[p - first_panel] = 0;
    }
    scan.skip_panel = skip;
  }
  kernels_.scan.scan(scan);
  if (beam()) Exclude(tokens, scan);
  const int64_t first = (tokens.begin - range_.begin) / rule_.group;
  for (int row = 0; row < rows_; ++row) {
    const MassResult m = kernels_.scan.masses(scan.e + row * scan.e_stride, scan.e_stride,
                                              spec::MeansPerGroup(rule_), Masses(row) + first);
    SegmentOf(row)[index] = {m.max, m.sum, 0};
  }
}

// Sets the factors that bring a row's segments (and chunk segments) to their common maximum.
void RouteTile::Reference(int row, Segment* own, Segment* other) {
  float max = kNone;
  for (int i = 0; i < segments(); ++i) {
    max = std::max(max, own[i].max);
    if (other != nullptr) max = std::max(max, other[i].max);
  }
  const auto factor = [max](Segment* s) {
    s->factor = s->max > kNone ? std::exp(s->max - max) : 0.0f;
  };
  for (int i = 0; i < segments(); ++i) {
    factor(own + i);
    if (other != nullptr) factor(other + i);
  }
}

void RouteTile::Combine() {
  for (int row = 0; row < rows_; ++row) {
    Reference(row, SegmentOf(row), beam() ? ChunkSegmentOf(row) : nullptr);
    if (!beam()) continue;
    // Chunks outside the beam keep their mass; the others speak through their groups.
    const uint8_t* kept = Kept(row / rows_per_selector_);
    float* mass = ChunkMasses(row);
    for (int i = 0; i < segments(); ++i) {
      float sum = 0;
      const int64_t first = (Tokens(i).begin - range_.begin) / kChunk;
      for (int64_t c = first; c < first + Tokens(i).size() / kChunk; ++c) {
        if (kept[c]) mass[c] = 0;
        sum += mass[c];
      }
      ChunkSegmentOf(row)[i].sum = sum;
    }
  }
}

void RouteTile::ScoresOf(int s, float* scores) const {
  for (int h = 0; h < rows_per_selector_; ++h) {
    const int row = s * rows_per_selector_ + h;
    float sum = 0;
    for (int i = 0; i < segments(); ++i) {
      sum += SegmentOf(row)[i].factor * SegmentOf(row)[i].sum;
      if (beam()) sum += ChunkSegmentOf(row)[i].factor * ChunkSegmentOf(row)[i].sum;
    }
    for (int i = 0; i < segments(); ++i) {
      const int64_t first = (Tokens(i).begin - range_.begin) / rule_.group;
      kernels_.scan.scaled(Masses(row) + first, Tokens(i).size() / rule_.group,
                           SegmentOf(row)[i].factor / sum, h > 0, scores + first);
    }
  }
  if (!beam()) return;
  const int per_chunk = spec::GroupsPerChunk(rule_);
  for (int64_t c = 0; c < chunks_; ++c) {
    if (!Kept(s)[c]) std::fill_n(scores + c * per_chunk, per_chunk, kNone);
  }
}

void RouteTile::Open(int s, const PlanView& plan, float* tail, ThreadScratch& t) {
  const int r = shape_.queries_per_kv(), dim = shape_.head_dim;
  const int row0 = s * rows_per_selector_;
  const int selector = rule_.scope == SelectionScope::kKvHead ? kv_head_ : kv_head_ * r + row0 % r;
  const int64_t at = (tile_.query + row0 / r) * int64_t{plan.selectors} + selector;
  const int64_t available = kept_chunks_ * spec::GroupsPerChunk(rule_);
  const int count = static_cast<int>(std::min<int64_t>(rule_.groups_budget, available));
  int32_t* groups = plan.groups + at * plan.budget;
  plan.counts[at] = count;
  if (count > 0) {
    if (count == groups_) {
      for (int g = 0; g < count; ++g) groups[g] = g;
    } else {
      ScoresOf(s, t.scores.data());
      Select(kernels_.scan, t.scores.data(), groups_, count, t.select(), groups);
    }
  }
  if (tail != nullptr) {
    const bool fp8 = rule_.summary_dtype == SummaryDtype::kFp8;
    const int64_t first_value = range_.begin / rule_.value_span;
    const float* scales = sum_.value_scales + kv_head_ * sum_.value_means;
    int32_t* index = t.index.data();
    float* weight = t.opened.data();
    for (int h = 0; h < rows_per_selector_; ++h) {
      float* mass = Masses(row0 + h);
      float sum = 0;
      for (int g = 0; g < count; ++g) {
        const int64_t token = range_.begin + int64_t{groups[g]} * rule_.group;
        const float m =
            mass[groups[g]] * SegmentOf(row0 + h)[token / kSegmentTokens - first_segment_].factor;
        index[g] = static_cast<int32_t>(first_value + groups[g] / spec::GroupsPerValue(rule_));
        kernels_.scan.spans(&m, 1, 1, scales + index[g], fp8, weight + int64_t{h} * count + g);
        sum += m;
        mass[groups[g]] = 0;
      }
      tail[TailRow(row0 + h) * TailLayout::Width(dim) + TailLayout::kOpenedSum] = sum;
    }
    float* said = t.part.data();
    std::memset(said, 0, sizeof(float) * static_cast<size_t>(rows_per_selector_ * dim));
    TailArgs a;
    a.weight = weight;
    a.weight_stride = count;
    a.rows = rows_per_selector_;
    a.head_dim = dim;
    a.values = OfHead(sum_.values, sum_.value_means * dim);
    a.index = index;
    a.fp8 = fp8;
    a.count = count;
    a.out = said;
    kernels_.scan.tail(a);
    for (int h = 0; h < rows_per_selector_; ++h) {
      float* out = tail + TailRow(row0 + h) * TailLayout::Width(dim);
      const float sum = out[TailLayout::kOpenedSum];
      kernels_.scan.scaled(said + int64_t{h} * dim, dim, sum > 0 ? 1.0f / sum : 0.0f, false,
                           out + TailLayout::Said(dim));
    }
  }
  // Candidate numbers to group numbers.
  const int32_t first_group = static_cast<int32_t>(range_.begin / rule_.group);
  for (int g = 0; g < count; ++g) groups[g] += first_group;
}

void RouteTile::TailSegment(int index, ThreadScratch& t) {
  const int dim = shape_.head_dim;
  const bool fp8 = rule_.summary_dtype == SummaryDtype::kFp8;
  const spec::TokenRange tokens = Tokens(index);
  float* sums = w_.part.data() + index * int64_t{rows_} * (dim + 1);
  float* out = sums + rows_;
  std::memset(sums, 0, sizeof(float) * static_cast<size_t>(rows_ * (dim + 1)));
  TailArgs a;
  a.rows = rows_;
  a.head_dim = dim;
  a.fp8 = fp8;
  a.tile = t.tile.data();
  a.weight = t.e.data();
  // One level: value means over `span` tokens, weighed by the masses of the items they cover.
  const auto level = [&](int span, int per_value, const void* values, const float* scales,
                         int64_t capacity, auto mass_of, auto factor_of) {
    const int64_t first = tokens.begin / span, count = tokens.size() / span;
    for (int row = 0; row < rows_; ++row) {
      const float sum =
          kernels_.scan.spans(mass_of(row), count, per_value, scales + kv_head_ * capacity + first,
                              fp8, t.e.data() + row * count);
      sums[row] += sum * factor_of(row);
    }
    a.weight_stride = a.count = count;
    a.values =
        static_cast<const char*>(OfHead(values, capacity * dim)) + first * dim * (fp8 ? 1 : 2);
    std::memset(t.part.data(), 0, sizeof(float) * static_cast<size_t>(rows_ * dim));
    a.out = t.part.data();
    kernels_.scan.tail(a);
    for (int row = 0; row < rows_; ++row) {
      kernels_.scan.scaled(a.out + row * dim, dim, factor_of(row), true, out + row * dim);
    }
  };
  level(
      rule_.value_span, spec::GroupsPerValue(rule_), sum_.values, sum_.value_scales,
      sum_.value_means,
      [&](int row) { return Masses(row) + (tokens.begin - range_.begin) / rule_.group; },
      [&](int row) { return SegmentOf(row)[index].factor; });
  if (!beam()) return;
  level(
      kChunk, 1, sum_.chunk_values, sum_.chunk_value_scales, sum_.chunks,
      [&](int row) { return ChunkMasses(row) + (tokens.begin - range_.begin) / kChunk; },
      [&](int row) { return ChunkSegmentOf(row)[index].factor; });
}

void RouteTile::FinishTail(float* tail) const {
  const int dim = shape_.head_dim;
  for (int row = 0; row < rows_; ++row) {
    float* out = tail + TailRow(row) * TailLayout::Width(dim);
    float max = kNone;
    float sum = 0;
    std::memset(out + TailLayout::Out(dim), 0, sizeof(float) * static_cast<size_t>(dim));
    for (int i = 0; i < segments(); ++i) {
      const float* sums = w_.part.data() + i * int64_t{rows_} * (dim + 1);
      sum += sums[row];
      kernels_.scan.scaled(sums + rows_ + row * dim, dim, 1.0f, true, out + TailLayout::Out(dim));
      max = std::max(max, SegmentOf(row)[i].max);
      if (beam()) max = std::max(max, ChunkSegmentOf(row)[i].max);
    }
    out[TailLayout::kMax] = max;
    out[TailLayout::kSum] = sum;
  }
}

// Plans and tails of queries without candidates.
void PutEmpty(const RouteParams& p, const QueryTile& tile, int kv_head) {
  const int r = p.shape.queries_per_kv(), width = TailLayout::Width(p.shape.head_dim);
  for (int i = tile.query; i < tile.query + tile.queries; ++i) {
    if (p.plan.selectors == p.shape.kv_heads) {
      p.plan.counts[int64_t{i} * p.plan.selectors + kv_head] = 0;
    }
    for (int h = kv_head * r; h < (kv_head + 1) * r; ++h) {
      if (p.plan.selectors == p.shape.heads) p.plan.counts[int64_t{i} * p.plan.selectors + h] = 0;
      if (p.tail != nullptr) {
        std::memset(p.tail + (int64_t{i} * p.shape.heads + h) * width, 0, sizeof(float) * width);
      }
    }
  }
}

}  // namespace

void CpuOps::Route(const RouteParams& p) {
  const int kv = p.shape.kv_heads;
  const int64_t tiles = QueryTiles(p.first_position, p.queries, kRouteQueries);
  const auto tile_at = [&](int64_t i) {
    return TileAt(p.first_position, p.queries, kRouteQueries, i / kv);
  };
  HGA_CHECK(p.plan.budget >= p.rule->groups_budget);
  float* tail = p.rule->tail ? p.tail : nullptr;
  if (tiles * kv > scratch_.workspaces() || tiles > 1) {
    return Parallel(tiles * kv, [&](int64_t i, ThreadScratch& t, int worker) {
      RouteTile tile(kernels_, p.shape, *p.rule, p.summaries, scratch_.workspace(worker));
      const QueryTile queries = tile_at(i);
      const int head = static_cast<int>(i % kv);
      if (!tile.Begin(p.first_position, queries, head)) return PutEmpty(p, queries, head);
      tile.Gather(p.q);
      tile.Beam(t);
      for (int s = 0; s < tile.segments(); ++s) tile.ScanSegment(s, t);
      tile.Combine();
      for (int s = 0; s < tile.selectors(); ++s) tile.Open(s, p.plan, tail, t);
      if (tail == nullptr) return;
      for (int s = 0; s < tile.segments(); ++s) tile.TailSegment(s, t);
      tile.FinishTail(tail);
    });
  }
  // One query tile: KV heads and segments side by side. All heads share the candidate range.
  const auto tile_of = [&](int64_t head) {
    RouteTile tile(kernels_, p.shape, *p.rule, p.summaries,
                   scratch_.workspace(static_cast<int>(head)));
    tile.Begin(p.first_position, tile_at(0), static_cast<int>(head));
    return tile;
  };
  const int segments = tile_of(0).segments();
  for (int head = 0; head < kv; ++head) {
    if (segments == 0) PutEmpty(p, tile_at(0), head);
    if (segments > 0) tile_of(head).Gather(p.q);
  }
  if (segments == 0) return;
  if (p.rule->chunk_beam > 0) {
    Parallel(kv, [&](int64_t head, ThreadScratch& t) { tile_of(head).Beam(t); });
  }
  Parallel(int64_t{kv} * segments, [&](int64_t i, ThreadScratch& t) {
    tile_of(i / segments).ScanSegment(static_cast<int>(i % segments), t);
  });
  Parallel(kv, [&](int64_t head, ThreadScratch& t) {
    RouteTile tile = tile_of(head);
    tile.Combine();
    for (int s = 0; s < tile.selectors(); ++s) tile.Open(s, p.plan, tail, t);
  });
  if (tail == nullptr) return;
  Parallel(int64_t{kv} * segments, [&](int64_t i, ThreadScratch& t) {
    tile_of(i / segments).TailSegment(static_cast<int>(i % segments), t);
  });
  for (int head = 0; head < kv; ++head) tile_of(head).FinishTail(tail);
}

void CpuOps::Beam(const BeamParams& p) {
  const int64_t tiles = QueryTiles(p.first_position, p.queries, kRouteQueries);
  std::fill_n(p.kept, p.shape.kv_heads * p.kept_stride, uint8_t{0});
  Parallel(p.shape.kv_heads, [&](int64_t head, ThreadScratch& t, int worker) {
    RouteTile tile(kernels_, p.shape, *p.rule, p.summaries, scratch_.workspace(worker));
    for (int64_t i = 0; i < tiles; ++i) {
      const QueryTile queries = TileAt(p.first_position, p.queries, kRouteQueries, i);
      if (!tile.Begin(p.first_position, queries, static_cast<int>(head))) continue;
      tile.Gather(p.q);
      tile.Beam(t);
      tile.AddKept(p.kept + head * p.kept_stride);
    }
  });
}

void CpuOps::Score(const ScoreParams& p) {
  const int kv = p.shape.kv_heads;
  const int selectors = spec::Selectors(*p.rule, p.shape.heads, kv);
  const int64_t tiles = QueryTiles(p.first_position, p.queries, kRouteQueries);
  Parallel(tiles * kv, [&](int64_t i, ThreadScratch& t, int worker) {
    RouteTile tile(kernels_, p.shape, *p.rule, p.summaries, scratch_.workspace(worker));
    const QueryTile queries = TileAt(p.first_position, p.queries, kRouteQueries, i / kv);
    const int head = static_cast<int>(i % kv);
    if (!tile.Begin(p.first_position, queries, head)) return;
    tile.Gather(p.q);
    tile.Beam(t);
    for (int s = 0; s < tile.segments(); ++s) tile.ScanSegment(s, t);
    tile.Combine();
    const int per_query = selectors / kv;
    for (int s = 0; s < tile.selectors(); ++s) {
      const int64_t query = queries.query + s / per_query;
      const int selector = head * per_query + s % per_query;
      tile.ScoresOf(s, p.scores + (query * selectors + selector) * p.groups);
    }
  });
}

}  // namespace hga::cpu
