// SPDX-License-Identifier: Apache-2.0
// The group level of summaries under a memory budget: pages that are final go to a file, and come
// back for the chunks of a beam.
#ifndef HGA_ATTENTION_SUMMARY_PAGER_H_
#define HGA_ATTENTION_SUMMARY_PAGER_H_

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "attention/summaries.h"
#include "backend/ops.h"
#include "hga/status.h"
#include "store/tiers.h"

namespace hga {

// Of one sequence. A page that is away reads as zeros, which is as good as its bytes for whoever
// weighs them with zero: the router looks only at what the beam kept. Not thread-safe.
class SummaryPager final : private TransferOwner {
 public:
  struct Chunks {
    int64_t first = 0, end = 0;
  };

  // For the layers of `summaries` [layers] that were made for paging; they outlive this. At most
  // `budget_bytes` of final pages stay in memory; a layer's worth at least.
  static Result<std::unique_ptr<SummaryPager>> Make(KvTiers* tiers, const HeadShape& shape,
                                                    std::span<LayerSummaries> summaries,
                                                    int64_t budget_bytes);
  ~SummaryPager() override;
  SummaryPager(const SummaryPager&) = delete;
  SummaryPager& operator=(const SummaryPager&) = delete;

  bool paged(int layer) const { return !at(layer).pages.empty(); }
  // The summaries of `chunk` are built: pages that are whole now go out.
  void Closed(int layer, int64_t chunk);
  // Brings in the pages of the chunks in kept [kv_heads][stride]. kDataLoss: some could not be
  // read or did not match their checksums; the chunks in damaged() must be built again, and
  // damaged() cleared, before another try. kResourceExhausted: nothing can be written out.
  Status Bring(int layer, const uint8_t* kept, int64_t stride);
  // Chunks from `chunks` on will be built again; partial pages come back for that. Errors as Bring.
  Status Truncate(int64_t chunks);
  std::vector<Chunks>& damaged() { return damaged_; }

  int64_t resident_bytes() const { return resident_ * LayerSummaries::kPageBytes; }

 private:
  enum class State : uint8_t {
    kOpen,   // not final: stays
    kHere,   // final, not in the file yet: stays
    kSaved,  // final and in the file: may go
    kAway,   // only in the file
  };
  struct Page {
    uint64_t sum = 0;
    uint32_t needed = 0;  // epoch of the newest Bring that wanted it
    State state = State::kOpen;
    bool used = false;  // since the clock's hand came by
  };
  // One array of one KV head: consecutive pages from `first` on.
  struct Region {
    int64_t first = 0;
    int64_t pages = 0;
    int64_t chunk_bytes = 0;
  };
  struct Layer {
    LayerSummaries* summaries = nullptr;
    std::vector<Page> pages;      // of its memory; empty: not paged
    std::vector<Region> regions;  // two per KV head at most
    int64_t file_offset = 0;
  };

  SummaryPager(KvTiers* tiers, int64_t budget_pages) : tiers_(tiers), budget_pages_(budget_pages) {}
  Layer& at(int layer) { return layers_[static_cast<size_t>(layer)]; }
  const Layer& at(int layer) const { return layers_[static_cast<size_t>(layer)]; }
  Page& PageAt(int layer, int64_t page) { return at(layer).pages[static_cast<size_t>(page)]; }
  void AddRegions(Layer* layer, const HeadShape& shape);
  Transfer* NewTransfer(IoOp op, int layer, int64_t page);
  void Write(int layer, int64_t page);
  void StartWrite(int layer, int64_t page);
  void WriteUnsaved() override;
  Status ReadNeeded(int layer);
  Status MakeRoom(int64_t pages);
  bool EvictOne();
  void Ended(const Transfer& transfer, int error) override;
  void NoteDamage(int layer, int64_t page);
  void Settle();

  KvTiers* tiers_;
  int64_t budget_pages_;
  int file_ = -1;
  int64_t file_bytes_ = 0;
  std::vector<Layer> layers_;
  std::vector<Chunks> damaged_;
  int64_t resident_ = 0;  // final pages in memory
  size_t hand_layer_ = 0, hand_page_ = 0;
  uint32_t epoch_ = 0;
  int under_way_ = 0;
};

}  // namespace hga

#endif  // HGA_ATTENTION_SUMMARY_PAGER_H_
