// SPDX-License-Identifier: Apache-2.0
// Fetch, then attend: spans in pieces whose cells have room, the next piece's cells on their way
// while this one's are used.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "attention/cell_needs.h"
#include "attention/layer_attention.h"
#include "spec/layout.h"
#include "spec/rules.h"

namespace hga {
namespace {

using spec::kChunk;

// Queries of a piece. More of them share more cells, fewer of them overlap reading and computing
// better; a chunk's queries have equal windows.
constexpr int kPieceQueries = kChunk;
// Chunks whose summaries are rebuilt together.
constexpr int64_t kRebuildChunks = 8;

// Queries [begin, end) of a span.
struct Piece {
  int begin = 0;
  int end = 0;
  bool empty() const { return end <= begin; }
};

// The same call for some of its queries.
AttendRoutedParams PartOf(const AttendRoutedParams& p, const Piece& piece) {
  AttendRoutedParams part = p;
  const int64_t row = int64_t{piece.begin} * p.shape.heads;
  part.q += row * p.shape.head_dim;
  part.out += row * p.shape.head_dim;
  part.first_position += piece.begin;
  part.queries = piece.end - piece.begin;
  part.plan.groups += int64_t{piece.begin} * p.plan.selectors * p.plan.budget;
  part.plan.counts += int64_t{piece.begin} * p.plan.selectors;
  if (part.tail != nullptr) part.tail += row * TailLayout::Width(p.shape.head_dim);
  return part;
}

// Lists the cells of the queries from `begin` on, as many queries as have room.
Piece ListPiece(const AttendRoutedParams& p, KvHistory& history, int layer, int begin,
                CellFetch* fetch) {
  const int64_t room = history.fetch_room();
  Piece piece{begin, begin};
  fetch->Begin(&history, layer);
  const int most = std::min(p.queries, begin + kPieceQueries);
  for (; piece.end < most; ++piece.end) {
    const int64_t before = fetch->size(), position = p.first_position + piece.end;
    if (piece.empty() || position % kChunk == 0) {
      AddWindows(p.shape, p.rule->sink_chunks, p.rule->local_chunks, position, fetch);
    }
    AddPlan(p, piece.end, fetch);
    if (fetch->size() > room) {
      fetch->Trim(before);
      break;
    }
  }
  return piece;
}

// The same; where not even one query has room, after waiting for what is under way: cells that are
// being written out or read ahead have room again once that is done.
Piece ListOrWait(const AttendRoutedParams& p, KvHistory& history, int layer, int begin,
                 CellFetch* fetch) {
  const Piece piece = ListPiece(p, history, layer, begin, fetch);
  if (!piece.empty() || begin == p.queries) return piece;
  history.Settle();
  return ListPiece(p, history, layer, begin, fetch);
}

}  // namespace

Status SequenceAttention::AttendRouted(Ops& ops, KvHistory& history, int layer,
                                       const AttendRoutedParams& p) {
  if (history.resident(layer)) {
    ops.AttendRouted(p);
    return OkStatus();
  }
  CellFetch* now = &(*fetches_)[0];
  CellFetch* next = &(*fetches_)[1];
  const auto release = [&](Status status) {
    now->Release();
    next->Release();
    return status;
  };
  Piece piece = ListOrWait(p, history, layer, 0, now);
  if (Status s = history.Start(now); !s.ok()) return release(s);
  while (!piece.empty()) {
    Piece after = ListPiece(p, history, layer, piece.end, next);
    if (Status s = history.Start(next); !s.ok()) return release(s);
    if (Status s = history.Finish(now); !s.ok()) return release(s);
    if (p.queries == 1) PrefetchNext(history, layer);
    ops.AttendRouted(PartOf(p, piece));
    now->Release();
    if (after.empty() && piece.end < p.queries) {
      after = ListOrWait(p, history, layer, piece.end, next);
      if (Status s = history.Start(next); !s.ok()) return release(s);
    }
    if (after.empty()) break;
    piece = after;
    std::swap(now, next);
  }
  const bool done = piece.end == p.queries && !piece.empty();
  if (done) return release(OkStatus());
  return release(ResourceExhausted(fmt::format(
      "layer {}: a query opens up to {} cells and {} have room; give the K/V more memory", layer,
      MostOpenedCells(p.shape, *p.rule), history.fetch_room())));
}

Status SequenceAttention::AttendSampled(Ops& ops, KvHistory& history, int layer,
                                        const AttendParams& params) {
  const RoutingConfig& rule = config_.RuleOf(layer);
  AttendSampledParams p;
  static_cast<AttendParams&>(p) = params;
  p.sink_chunks = rule.sink_chunks;
  p.local_chunks = rule.local_chunks;
  p.most_cells = config_.sampled_layers.at(layer);
  if (history.resident(layer)) {
    ops.AttendSampled(p);
    return OkStatus();
  }
  CellFetch& fetch = (*fetches_)[0];
  fetch.Begin(&history, layer);
  // Windows and sample are equal for the queries of a chunk.
  const int64_t end = p.first_position + p.queries;
  for (int64_t at = p.first_position; at < end; at = (at / kChunk + 1) * kChunk) {
    AddSample(shape_, rule, p.most_cells, at, &fetch);
  }
  Status status = history.Start(&fetch);
  if (status.ok()) status = history.Finish(&fetch);
  if (status.ok()) ops.AttendSampled(p);
  fetch.Release();
  return status;
}

// The newest plan is the best guess at the next one; a guess that is in memory costs a look.
void SequenceAttention::PrefetchNext(KvHistory& history, int layer) {
  const int next = layer + 1;
  if (next >= history.shape().layers || history.resident(next)) return;
  const LastPlanOf& last = last_[static_cast<size_t>(next)];
  CellFetch& fetch = (*fetches_)[2];
  fetch.Begin(&history, next);
  for (size_t head = 0; head < last.groups.size(); ++head) {
    AddGroups(static_cast<int>(head), last.group, last.groups[head].data(),
              static_cast<int64_t>(last.groups[head].size()), &fetch);
  }
  history.Prefetch(&fetch);
}

Status SequenceAttention::Rebuild(Ops& ops, KvHistory& history, int64_t length) {
  for (int layer = 0; layer < history.shape().layers; ++layer) {
    HGA_RETURN_IF_ERROR(RebuildLayer(ops, history, layer, length));
  }
  return OkStatus();
}

Status SequenceAttention::RebuildLayer(Ops& ops, KvHistory& history, int layer, int64_t length) {
  const bool needed =
      config_.KindOf(layer) == LayerKind::kRouted && spec::NeedsSummaries(config_.RuleOf(layer));
  return needed ? RebuildChunks(ops, history, layer, 0, length / kChunk) : OkStatus();
}

Status SequenceAttention::RebuildChunks(Ops& ops, KvHistory& history, int layer, int64_t from,
                                        int64_t to) {
  if (history.resident(layer)) {
    Close(ops, history, layer, from * kChunk, to * kChunk);
    return OkStatus();
  }
  // Two pieces have room together.
  history.Settle();
  const int64_t step = std::clamp<int64_t>(
      history.fetch_room() / (2 * CellsPerRecord(history.shape())), 1, kRebuildChunks);
  const auto list = [&](int64_t first, CellFetch* fetch) {
    fetch->Begin(&history, layer);
    const int64_t end = std::min(to, first + step) * spec::kCellsPerChunk;
    for (int head = 0; head < shape_.kv_heads; ++head) {
      for (int64_t cell = first * spec::kCellsPerChunk; cell < end; ++cell) fetch->Add(head, cell);
    }
    return history.Start(fetch);
  };
  CellFetch fetches[2];
  CellFetch* now = &fetches[0];
  CellFetch* next = &fetches[1];
  HGA_RETURN_IF_ERROR(list(from, now));
  for (int64_t first = from; first < to; first += step) {
    const int64_t end = std::min(to, first + step);
    HGA_RETURN_IF_ERROR(list(end, next));
    HGA_RETURN_IF_ERROR(history.Finish(now));
    Close(ops, history, layer, first * kChunk, end * kChunk);
    now->Release();
    std::swap(now, next);
  }
  return OkStatus();
}

// The beam first, so that only what it keeps need be in memory.
Status SequenceAttention::BringSummaries(Ops& ops, KvHistory& history, const RouteParams& route,
                                         int layer) {
  // Left by a repair that failed: their pages hold nothing. Truncate builds them again.
  if (!pager_->damaged().empty()) {
    return DataLoss("summaries were damaged and could not be built again");
  }
  BeamParams p;
  p.shape = route.shape;
  p.rule = route.rule;
  p.q = route.q;
  p.first_position = route.first_position;
  p.queries = route.queries;
  p.summaries = route.summaries;
  p.kept = kept_.data();
  p.kept_stride = (route.first_position + route.queries - 1) / kChunk + 1;
  ops.Beam(p);
  for (;;) {
    const Status status = pager_->Bring(layer, p.kept, p.kept_stride);
    if (status.code() != StatusCode::kDataLoss) return status;
    // Chunks that closed in this span have their summaries too.
    HGA_RETURN_IF_ERROR(
        RepairSummaries(ops, history, layer, (route.first_position + route.queries) / kChunk));
  }
}

// Builds damaged summaries again, from the K/V they came from.
Status SequenceAttention::RepairSummaries(Ops& ops, KvHistory& history, int layer, int64_t chunks) {
  std::vector<SummaryPager::Chunks>& damaged = pager_->damaged();
  while (!damaged.empty()) {
    const SummaryPager::Chunks d = damaged.back();
    HGA_RETURN_IF_ERROR(RebuildChunks(ops, history, layer, d.first, std::min(d.end, chunks)));
    damaged.pop_back();
  }
  return OkStatus();
}

Status SequenceAttention::Truncate(Ops& ops, KvHistory& history, int64_t length) {
  if (pager_ == nullptr) return OkStatus();
  const Status status = pager_->Truncate(length / kChunk);
  if (!status.ok() && status.code() != StatusCode::kDataLoss) return status;
  for (int layer = 0; layer < history.shape().layers; ++layer) {
    // Which layer a damaged page belonged to does not matter: building again changes no bit.
    if (!pager_->paged(layer)) continue;
    for (const SummaryPager::Chunks& d : pager_->damaged()) {
      HGA_RETURN_IF_ERROR(
          RebuildChunks(ops, history, layer, d.first, std::min(d.end, length / kChunk)));
    }
  }
  pager_->damaged().clear();
  return OkStatus();
}

}  // namespace hga
