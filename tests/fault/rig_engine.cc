// SPDX-License-Identifier: Apache-2.0
// Mirrors src/engine/engine.cc, engine_kv.cc and src/attention/fetch_and_attend.cc.
#include "tests/fault/rig_engine.h"

#include <algorithm>

#include "attention/cell_needs.h"
#include "spec/layout.h"
#include "spec/visibility.h"

namespace hga::rigs {
namespace {

using spec::kCell;
using spec::kCellsPerChunk;
using spec::kChunk;

constexpr HeadShape kHeads = {kRigShape.kv_heads, kRigShape.kv_heads, kRigShape.head_dim};
constexpr int kResident = 0, kRouted = 1, kSampled = 2;
constexpr int kMostRuns = 16;
constexpr int64_t kPieceTokens = kChunk;

}  // namespace

SessionIdentity RigIdentity() {
  SessionIdentity identity;
  identity.shape = kRigShape;
  identity.weights.fill(0x3A);
  return identity;
}

AttentionConfig RigEngine::Rules() {
  AttentionConfig config;
  config.name = "rig";
  config.dense_layers = {kResident};
  config.sampled_layers = {{kSampled, 6}};
  config.routing.sink_chunks = 1;
  config.routing.local_chunks = 1;
  return config;
}

Result<std::unique_ptr<RigEngine>> RigEngine::Open(RigDisk* disk, const RigConfig& config,
                                                   uint64_t seed, RigReport* report) {
  std::unique_ptr<RigEngine> engine(new RigEngine(config, seed, report));
  KvOptions options;
  options.directory = disk->root();
  options.host_bytes = config.slots * CellBytes(kRigShape);
  options.disk_bytes = config.disk_bytes;
  TierOptions buffers;
  buffers.single_buffers = config.single_buffers;
  buffers.whole_buffers = config.whole_buffers;
  HGA_ASSIGN_OR_RETURN(std::unique_ptr<IoBackend> io, disk->Start());
  HGA_ASSIGN_OR_RETURN(engine->space_, KvSpace::OpenOn(std::move(io), options, buffers, kRigShape));
  return engine;
}

Result<std::unique_ptr<RigSequence>> RigEngine::NewSequence(int number) {
  auto sequence = std::make_unique<RigSequence>();
  sequence->number = number;
  HGA_ASSIGN_OR_RETURN(sequence->history, space_->NewHistory(Rules(), kHeads, config_.capacity,
                                                             config_.span, device_));
  return sequence;
}

Result<std::unique_ptr<RigSequence>> RigEngine::OpenSession(int number, const std::string& name) {
  HGA_ASSIGN_OR_RETURN(
      KvSpace::Session found,
      space_->OpenSession(name, RigIdentity(), Rules(), kHeads, config_.capacity, config_.span));
  auto sequence = std::make_unique<RigSequence>();
  sequence->number = number;
  sequence->session = name;
  sequence->durable = std::move(found.durable);
  sequence->history = std::move(found.history);
  sequence->acknowledged = found.tokens;
  HGA_RETURN_IF_ERROR(Resume(*sequence, found.tokens));
  return sequence;
}

Status RigEngine::Run(std::span<const Item> items) {
  for (int attempt = 0;; ++attempt) {
    RigSequence* failed = nullptr;
    const Status status = RunOnce(items, &failed);
    if (status.ok()) return status;
    for (const Item& item : items) {
      const Status cut = item.sequence->history->Truncate(item.sequence->length());
      if (!cut.ok() && cut.code() != StatusCode::kDataLoss) return cut;
    }
    if (status.code() != StatusCode::kDataLoss || attempt == kMostRuns) return status;
    HGA_RETURN_IF_ERROR(Recover(*failed));
  }
}

Status RigEngine::Feed(RigSequence& sequence, std::span<const int32_t> tokens) {
  for (size_t done = 0; done < tokens.size();) {
    const size_t room = static_cast<size_t>(config_.span - sequence.length() % kChunk);
    const Item item{&sequence, tokens.subspan(done, std::min(room, tokens.size() - done))};
    HGA_RETURN_IF_ERROR(Run({&item, 1}));
    done += item.tokens.size();
  }
  return OkStatus();
}

Status RigEngine::RunOnce(std::span<const Item> items, RigSequence** failed) {
  for (const Item& item : items) {
    *failed = item.sequence;
    HGA_RETURN_IF_ERROR(Begin(item));
  }
  for (int layer = 0; layer < kRigShape.layers; ++layer) {
    for (const Item& item : items) Write(item, layer);
    for (const Item& item : items) {
      *failed = item.sequence;
      const int64_t first = item.sequence->length();
      const int64_t end = first + static_cast<int64_t>(item.tokens.size());
      for (int64_t chunk = first / kChunk; chunk < end / kChunk; ++chunk) {
        item.sequence->history->Close(layer, chunk);
      }
      const Status status = Attend(item, layer);
      for (CellFetch& fetch : item.sequence->fetches) fetch.Release();
      HGA_RETURN_IF_ERROR(status);
    }
  }
  for (const Item& item : items) {
    RigSequence& s = *item.sequence;
    const auto n = static_cast<int64_t>(item.tokens.size());
    s.history->Advance(s.length() + n);
    s.tokens.insert(s.tokens.end(), item.tokens.begin(), item.tokens.end());
    if (s.durable != nullptr) s.durable->Extend(n, "rig");
  }
  return OkStatus();
}

Status RigEngine::Begin(const Item& item) {
  RigSequence& s = *item.sequence;
  if (s.durable != nullptr && !replaying_ && s.durable->MustPublish(s.length(), item.tokens)) {
    HGA_RETURN_IF_ERROR(TakeCheckpoint(s));
  }
  return s.history->Reserve(s.length() + static_cast<int64_t>(item.tokens.size()));
}

void RigEngine::Write(const Item& item, int layer) {
  RigSequence& s = *item.sequence;
  int64_t position = s.length();
  for (const int32_t token : item.tokens) {
    for (int head = 0; head < kRigShape.kv_heads; ++head) {
      Word word{s.number, layer, head, position / kCell, 0, token};
      word.index = static_cast<int>(position % kCell) * kWordsPerRow;
      WriteRow(word, s.history->Key(layer, head, position));
      word.index += kCell * kWordsPerRow;
      WriteRow(word, s.history->Value(layer, head, position));
    }
    ++position;
  }
}

Status RigEngine::Attend(const Item& item, int layer) {
  if (!item.sequence->history->resident(layer)) {
    return layer == kSampled ? AttendSampled(item) : AttendRouted(item);
  }
  const int64_t end = item.sequence->length() + static_cast<int64_t>(item.tokens.size());
  now_.clear();
  for (int i = 0; i < 4; ++i) {
    now_.emplace_back(Below(kRigShape.kv_heads),
                      static_cast<int64_t>(Below(static_cast<uint64_t>(end))) / kCell);
  }
  CompareAll(item, layer, now_);
  return OkStatus();
}

// Windows of the queries of a chunk from `position` on and what they open, as much as has room.
// Returns the end of the piece; `position` when there is none for its windows.
int64_t RigEngine::ListRouted(const Item& item, int64_t position, CellFetch* fetch, Cells* cells) {
  KvHistory& history = *item.sequence->history;
  const int64_t end = item.sequence->length() + static_cast<int64_t>(item.tokens.size());
  const RoutingConfig rule = Rules().RuleOf(kRouted);
  cells->clear();
  fetch->Begin(&history, kRouted);
  if (position == end) return position;
  AddWindows(kHeads, rule.sink_chunks, rule.local_chunks, position, fetch);
  if (fetch->size() > history.fetch_room()) {
    fetch->Trim(0);
    return position;
  }
  const auto range = spec::CandidateRange(position, rule.sink_chunks, rule.local_chunks);
  for (int head = 0; head < kRigShape.kv_heads; ++head) {
    for (int64_t cell = 0; cell <= position / kCell; ++cell) {
      if (cell < range.begin / kCell || cell >= range.end / kCell) cells->emplace_back(head, cell);
    }
  }
  for (uint64_t i = Below(24); i > 0 && !range.empty(); --i) {
    const int head = static_cast<int>(Below(kRigShape.kv_heads));
    const int64_t cell =
        (range.begin + static_cast<int64_t>(Below(static_cast<uint64_t>(range.size())))) / kCell;
    const int64_t before = fetch->size();
    fetch->Add(head, cell);
    if (fetch->size() > history.fetch_room()) {
      fetch->Trim(before);
      break;
    }
    cells->emplace_back(head, cell);
  }
  return std::min(end, (position / kPieceTokens + 1) * kPieceTokens);
}

Status RigEngine::AttendRouted(const Item& item) {
  RigSequence& s = *item.sequence;
  const int64_t end = s.length() + static_cast<int64_t>(item.tokens.size());
  CellFetch* now = &s.fetches[0];
  CellFetch* next = &s.fetches[1];
  const auto list = [&](int64_t from, CellFetch* fetch, Cells* cells) {
    int64_t to = ListRouted(item, from, fetch, cells);
    if (to == from && from < end) {
      s.history->Settle();
      to = ListRouted(item, from, fetch, cells);
    }
    return to;
  };
  int64_t at = s.length();
  int64_t piece_end = list(at, now, &now_);
  HGA_RETURN_IF_ERROR(s.history->Start(now));
  while (piece_end > at) {
    int64_t next_end = ListRouted(item, piece_end, next, &next_);
    HGA_RETURN_IF_ERROR(s.history->Start(next));
    HGA_RETURN_IF_ERROR(s.history->Finish(now));
    if (Below(2) == 0) Prefetch(s, Below(2) == 0 ? kRouted : kSampled, piece_end);
    CompareAll(item, kRouted, now_);
    now->Release();
    if (next_end == piece_end && piece_end < end) {
      next_end = list(piece_end, next, &next_);
      HGA_RETURN_IF_ERROR(s.history->Start(next));
    }
    at = piece_end;
    piece_end = next_end;
    std::swap(now, next);
    std::swap(now_, next_);
  }
  if (piece_end == end) return OkStatus();
  return ResourceExhausted(fmt::format("windows have no room at {} of {}", piece_end, end));
}

// Any closed chunk may be guessed, also one that nobody will want.
void RigEngine::Prefetch(RigSequence& s, int layer, int64_t end) {
  const int64_t cells = end / kChunk * kCellsPerChunk;
  CellFetch& fetch = s.fetches[2];
  fetch.Begin(s.history.get(), layer);
  for (uint64_t i = Below(16); i > 0 && cells > 0; --i) {
    const int64_t cell = static_cast<int64_t>(Below(static_cast<uint64_t>(cells)));
    // What the span itself closed is not read while it is computed.
    if (cell / kCellsPerChunk < s.length() / kChunk) {
      fetch.Add(static_cast<int>(Below(kRigShape.kv_heads)), cell);
    }
  }
  s.history->Prefetch(&fetch);
}

Status RigEngine::AttendSampled(const Item& item) {
  RigSequence& s = *item.sequence;
  const AttentionConfig config = Rules();
  const RoutingConfig& rule = config.RuleOf(kSampled);
  const int most = config.sampled_layers.at(kSampled);
  const int64_t end = s.length() + static_cast<int64_t>(item.tokens.size());
  CellFetch& fetch = s.fetches[0];
  fetch.Begin(s.history.get(), kSampled);
  now_.clear();
  for (int64_t at = s.length(); at < end; at = (at / kChunk + 1) * kChunk) {
    AddSample(kHeads, rule, most, at, &fetch);
    const auto range = spec::CandidateRange(at, rule.sink_chunks, rule.local_chunks);
    const int64_t stride = range.empty() ? 1 : spec::SampleStride(range.size() / kCell, most);
    for (int64_t cell = 0; cell <= at / kCell; ++cell) {
      const int64_t from_first = cell - range.begin / kCell;
      const bool candidate = from_first >= 0 && cell < range.end / kCell;
      if (candidate && from_first % stride != 0) continue;
      for (int head = 0; head < kRigShape.kv_heads; ++head) now_.emplace_back(head, cell);
    }
  }
  if (fetch.size() > s.history->fetch_room()) s.history->Settle();
  HGA_RETURN_IF_ERROR(s.history->Start(&fetch));
  HGA_RETURN_IF_ERROR(s.history->Finish(&fetch));
  CompareAll(item, kSampled, now_);
  return OkStatus();
}

void RigEngine::CompareAll(const Item& item, int layer, const Cells& cells) {
  for (const auto& [head, cell] : cells) Compare(*item.sequence, item.tokens, layer, head, cell);
}

void RigEngine::Compare(const RigSequence& s, std::span<const int32_t> more, int layer, int kv_head,
                        int64_t cell) {
  const auto fail = [&](std::string text) {
    if (report_->wrong++ == 0) report_->first = std::move(text);
  };
  const Bf16* data = s.history->cells(layer)[kv_head * s.history->cell_stride() + cell];
  Word word{s.number, layer, kv_head, cell, 0, 0};
  if (data == nullptr) return fail(Describe(word) + ": is not in memory");
  const auto known = static_cast<int64_t>(s.tokens.size());
  const int64_t end = std::min(known + static_cast<int64_t>(more.size()), (cell + 1) * kCell);
  for (int64_t position = cell * kCell; position < end; ++position) {
    const auto at = static_cast<size_t>(position);
    word.age = position < known ? s.tokens[at] : more[at - s.tokens.size()];
    for (const int row :
         {static_cast<int>(position % kCell), static_cast<int>(kCell + position % kCell)}) {
      word.index = row * kWordsPerRow;
      uint64_t found = 0;
      report_->words += kWordsPerRow;
      const int wrong = WrongWord(word, data + int64_t{row} * kRigShape.head_dim, &found);
      if (wrong < 0) continue;
      word.index += wrong;
      fail(Explain(word, found));
    }
  }
}

}  // namespace hga::rigs
