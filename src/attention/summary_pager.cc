// SPDX-License-Identifier: Apache-2.0
// Pages in and out: a second-chance clock over all layers, checksums kept in memory.
#include "attention/summary_pager.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "spec/layout.h"
#include "store/record.h"

namespace hga {
namespace {

constexpr int64_t kPage = LayerSummaries::kPageBytes;

}  // namespace

Result<std::unique_ptr<SummaryPager>> SummaryPager::Make(KvTiers* tiers, const HeadShape& shape,
                                                         std::span<LayerSummaries> summaries,
                                                         int64_t budget_bytes) {
  std::unique_ptr<SummaryPager> pager(new SummaryPager(tiers, budget_bytes / kPage));
  int64_t largest = 0;
  for (LayerSummaries& s : summaries) {
    Layer layer;
    if (s.paged()) {
      layer.summaries = &s;
      layer.pages.resize(static_cast<size_t>(spec::CeilDiv(s.memory_bytes(), kPage)));
      layer.file_offset = pager->file_bytes_;
      pager->AddRegions(&layer, shape);
      pager->file_bytes_ += static_cast<int64_t>(layer.pages.size()) * kPage;
      int64_t pages = 0;
      for (const Region& region : layer.regions) pages += region.pages;
      largest = std::max(largest, pages);
    }
    pager->layers_.push_back(std::move(layer));
  }
  pager->budget_pages_ = std::max(pager->budget_pages_, largest);
  tiers->Add(pager.get());
  if (Status status = tiers->TakeDisk(pager->file_bytes_, false); !status.ok()) {
    pager->file_bytes_ = 0;
    return status;
  }
  HGA_ASSIGN_OR_RETURN(pager->file_,
                       tiers->io().OpenFile(tiers->options().directory, OpenMode::kTemporary));
  HGA_RETURN_IF_ERROR(tiers->io().Allocate(pager->file_, pager->file_bytes_));
  return pager;
}

void SummaryPager::AddRegions(Layer* layer, const HeadShape& shape) {
  const SummaryView& v = layer->summaries->view();
  const int64_t keys = layer->summaries->key_bytes_per_chunk();
  const int64_t values = layer->summaries->value_bytes_per_chunk();
  for (int head = 0; head < shape.kv_heads; ++head) {
    const auto add = [&](const void* base, int64_t chunk_bytes) {
      if (base == nullptr) return;
      const int64_t bytes = chunk_bytes * v.chunks;
      HGA_CHECK(bytes % kPage == 0);
      layer->regions.push_back(
          {(layer->summaries->OffsetOf(base) + head * bytes) / kPage, bytes / kPage, chunk_bytes});
    };
    add(v.keys, keys);
    add(v.values, values);
  }
}

SummaryPager::~SummaryPager() {
  tiers_->Remove(this);
  Settle();
  tiers_->GiveDisk(file_bytes_, false);
  if (file_ >= 0) tiers_->io().CloseFile(file_);
}

void SummaryPager::Settle() {
  while (under_way_ > 0) tiers_->transfers().Reap(1);
}

Transfer* SummaryPager::NewTransfer(IoOp op, int layer, int64_t page) {
  // A buffer for a sector's worth of cells is one page.
  Transfer* transfer = tiers_->transfers().AcquireWaiting(tiers_->cells_per_sector());
  HGA_CHECK(static_cast<int64_t>(transfer->data.size()) == kPage);
  transfer->owner = this;
  transfer->op = op;
  transfer->layer = layer;
  transfer->chunk = page;
  return transfer;
}

void SummaryPager::Closed(int layer, int64_t chunk) {
  if (!paged(layer)) return;
  for (const Region& region : at(layer).regions) {
    // Whole pages that end with this chunk.
    const int64_t begin = chunk * region.chunk_bytes / kPage;
    const int64_t end = (chunk + 1) * region.chunk_bytes / kPage;
    for (int64_t page = begin; page < end; ++page) {
      if (PageAt(layer, region.first + page).state == State::kOpen) {
        Write(layer, region.first + page);
      }
    }
  }
}

void SummaryPager::Write(int layer, int64_t page) {
  Page& p = PageAt(layer, page);
  p.sum = CellSum({at(layer).summaries->Page(page), static_cast<size_t>(kPage)});
  p.state = State::kHere;
  p.used = true;
  ++resident_;
  StartWrite(layer, page);
}

void SummaryPager::StartWrite(int layer, int64_t page) {
  Transfer* transfer = NewTransfer(IoOp::kWrite, layer, page);
  std::memcpy(transfer->data.data(), at(layer).summaries->Page(page), static_cast<size_t>(kPage));
  ++under_way_;
  tiers_->transfers().Start(transfer, file_, at(layer).file_offset + page * kPage);
}

void SummaryPager::WriteUnsaved() {
  for (int layer = 0; layer < static_cast<int>(layers_.size()); ++layer) {
    for (size_t page = 0; page < at(layer).pages.size(); ++page) {
      if (at(layer).pages[page].state == State::kHere) {
        StartWrite(layer, static_cast<int64_t>(page));
      }
    }
  }
}

Status SummaryPager::Bring(int layer, const uint8_t* kept, int64_t stride) {
  if (!paged(layer)) return OkStatus();
  ++epoch_;
  const Layer& l = at(layer);
  const size_t arrays = l.regions.size();
  const int64_t heads = static_cast<int64_t>(arrays) / (l.summaries->view().values ? 2 : 1);
  int64_t away = 0;
  for (size_t r = 0; r < arrays; ++r) {
    const Region& region = l.regions[r];
    const int64_t head = static_cast<int64_t>(r) * heads / static_cast<int64_t>(arrays);
    for (int64_t c = 0; c < stride; ++c) {
      if (!kept[head * stride + c]) continue;
      const int64_t last = ((c + 1) * region.chunk_bytes - 1) / kPage;
      for (int64_t page = c * region.chunk_bytes / kPage; page <= last; ++page) {
        Page& p = PageAt(layer, region.first + page);
        away += p.needed != epoch_ && p.state == State::kAway;
        p.needed = epoch_;
        p.used = true;
      }
    }
  }
  HGA_RETURN_IF_ERROR(MakeRoom(away));
  return ReadNeeded(layer);
}

Status SummaryPager::MakeRoom(int64_t pages) {
  bool tried = false;
  while (resident_ + pages > budget_pages_) {
    if (EvictOne()) continue;
    if (under_way_ == 0 && !std::exchange(tried, true)) WriteUnsaved();
    if (under_way_ == 0) {
      return ResourceExhausted(
          fmt::format("summaries: {} pages and {} more exceed the budget of {}, and none can go",
                      resident_, pages, budget_pages_));
    }
    Settle();
  }
  return OkStatus();
}

// Twice around at most: the first time takes away second chances.
bool SummaryPager::EvictOne() {
  int64_t left = 0;
  for (const Layer& layer : layers_) left += 2 * static_cast<int64_t>(layer.pages.size());
  for (; left > 0; --left) {
    while (hand_page_ >= layers_[hand_layer_].pages.size()) {
      hand_page_ = 0;
      hand_layer_ = (hand_layer_ + 1) % layers_.size();
    }
    Layer& layer = layers_[hand_layer_];
    const size_t page = hand_page_++;
    Page& p = layer.pages[page];
    if (p.state != State::kSaved || p.needed == epoch_) continue;
    if (std::exchange(p.used, false)) continue;
    layer.summaries->DropPage(static_cast<int64_t>(page));
    p.state = State::kAway;
    --resident_;
    return true;
  }
  return false;
}

Status SummaryPager::ReadNeeded(int layer) {
  Layer& l = at(layer);
  for (const Region& region : l.regions) {
    for (int64_t page = region.first; page < region.first + region.pages; ++page) {
      const Page& p = PageAt(layer, page);
      if (p.state != State::kAway || p.needed != epoch_) continue;
      Transfer* transfer = NewTransfer(IoOp::kRead, layer, page);
      ++under_way_;
      tiers_->transfers().Start(transfer, file_, l.file_offset + page * kPage, false);
    }
  }
  Settle();
  if (damaged_.empty()) return OkStatus();
  return DataLoss(fmt::format("{}: summaries of chunk {}, layer {}, are damaged",
                              tiers_->options().directory, damaged_.front().first, layer));
}

void SummaryPager::Ended(const Transfer& transfer, int error) {
  --under_way_;
  const int64_t page = transfer.chunk;
  Page& p = PageAt(transfer.layer, page);
  if (transfer.op == IoOp::kWrite) {
    // What could not be written stays in memory.
    if (error == 0 && p.state == State::kHere) p.state = State::kSaved;
    if (error != 0) ++tiers_->stats().failed_writes;
    return;
  }
  if (error != 0) ++tiers_->stats().failed_reads;
  if (error != 0 || CellSum(transfer.data) != p.sum) {
    if (error == 0) ++tiers_->stats().damaged;
    return NoteDamage(transfer.layer, page);
  }
  std::memcpy(at(transfer.layer).summaries->Page(page), transfer.data.data(), transfer.data.size());
  p.state = State::kSaved;
  ++resident_;
  ++tiers_->stats().summary_pages;
}

void SummaryPager::NoteDamage(int layer, int64_t page) {
  PageAt(layer, page).state = State::kOpen;
  for (const Region& region : at(layer).regions) {
    if (page < region.first || page >= region.first + region.pages) continue;
    const int64_t first = (page - region.first) * kPage;
    damaged_.push_back(
        {first / region.chunk_bytes, spec::CeilDiv(first + kPage, region.chunk_bytes)});
  }
}

Status SummaryPager::Truncate(int64_t chunks) {
  Settle();
  ++epoch_;
  Status status;
  for (int layer = 0; layer < static_cast<int>(layers_.size()); ++layer) {
    for (const Region& region : at(layer).regions) {
      const int64_t partial = chunks * region.chunk_bytes / kPage;
      const bool inside = chunks * region.chunk_bytes % kPage != 0;
      if (inside) PageAt(layer, region.first + partial).needed = epoch_;
    }
    if (paged(layer)) {
      const Status read = ReadNeeded(layer);
      if (status.ok()) status = read;
    }
    for (const Region& region : at(layer).regions) {
      const int64_t first = chunks * region.chunk_bytes / kPage;
      for (int64_t page = region.first + first; page < region.first + region.pages; ++page) {
        Page& p = PageAt(layer, page);
        if (p.state == State::kHere || p.state == State::kSaved) --resident_;
        p.state = State::kOpen;
      }
    }
  }
  return status;
}

}  // namespace hga
