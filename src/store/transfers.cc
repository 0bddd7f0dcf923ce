// SPDX-License-Identifier: Apache-2.0
// Staging buffers of two sizes over one queue.
#include "store/transfers.h"

#include <algorithm>

#include "base/check.h"

namespace hga {

int Transfers::CellsPerSector(const HistoryShape& shape) {
  return static_cast<int>(std::max<int64_t>(1, kIoAlignment / CellBytes(shape)));
}

int64_t Transfers::StagingBytes(const HistoryShape& shape, int single, int whole) {
  return single * CellsPerSector(shape) * CellBytes(shape) + whole * RecordBytes(shape);
}

Result<std::unique_ptr<Transfers>> Transfers::Make(IoBackend* io, const HistoryShape& shape,
                                                   int single, int whole) {
  HGA_CHECK(RecordBytes(shape) % kIoAlignment == 0);
  std::unique_ptr<Transfers> t(new Transfers(io, shape));
  const size_t bytes = static_cast<size_t>(StagingBytes(shape, single, whole));
  HGA_ASSIGN_OR_RETURN(t->memory_, Array<std::byte>::Make(bytes));
  HGA_RETURN_IF_ERROR(io->RegisterMemory({t->memory_.data(), bytes}));
  t->slots_.resize(static_cast<size_t>(single + whole));
  t->done_.resize(t->slots_.size());
  const auto single_bytes = static_cast<size_t>(CellsPerSector(shape) * CellBytes(shape));
  std::byte* at = t->memory_.data();
  for (size_t i = 0; i < t->slots_.size(); ++i) {
    Slot& slot = t->slots_[i];
    slot.transfer.number = static_cast<int>(i);
    slot.whole = i >= static_cast<size_t>(single);
    slot.buffer = {at, slot.whole ? static_cast<size_t>(RecordBytes(shape)) : single_bytes};
    at += slot.buffer.size();
    slot.transfer.targets.resize(static_cast<size_t>(CellsPerRecord(shape)));
    t->FreeList(slot.whole).push_back(&slot);
  }
  return t;
}

Transfers::~Transfers() {
  while (under_way_ > 0) Reap(1);
}

Transfer* Transfers::Acquire(int cells) {
  const size_t bytes = static_cast<size_t>(cells * CellBytes(shape_));
  const bool fits_single = cells <= CellsPerSector(shape_);
  std::vector<Slot*>& list = FreeList(!fits_single || free_single_.empty());
  if (list.empty()) return nullptr;
  Slot* slot = list.back();
  list.pop_back();
  Transfer& transfer = slot->transfer;
  transfer.cells = cells;
  transfer.data = slot->buffer.first(bytes);
  std::fill_n(transfer.targets.begin(), cells, Transfer::Target());
  return &transfer;
}

Transfer* Transfers::AcquireWaiting(int cells) {
  for (;;) {
    if (Transfer* transfer = Acquire(cells); transfer != nullptr) return transfer;
    HGA_CHECK(Reap(1) > 0);
  }
}

void Transfers::GiveBack(Transfer* transfer) {
  Slot& slot = slots_[static_cast<size_t>(transfer->number)];
  transfer->owner = nullptr;
  FreeList(slot.whole).push_back(&slot);
}

void Transfers::Start(Transfer* transfer, int file, int64_t offset, bool now) {
  HGA_CHECK(transfer->owner != nullptr);
  ++under_way_;
  slots_[static_cast<size_t>(transfer->number)].id =
      queue_->Add(transfer->op, file, offset, transfer->data, now);
}

int Transfers::Reap(int least) {
  const int ended = queue_->Wait(done_, least);
  for (int i = 0; i < ended; ++i) {
    const IoDone& done = done_[static_cast<size_t>(i)];
    for (Slot& slot : slots_) {
      if (slot.id != done.id) continue;
      slot.id = 0;
      --under_way_;
      slot.transfer.owner->Ended(slot.transfer, done.error);
      GiveBack(&slot.transfer);
      break;
    }
  }
  return ended;
}

}  // namespace hga
