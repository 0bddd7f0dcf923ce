// SPDX-License-Identifier: Apache-2.0
// Setting up what sequences share.
#include "store/tiers.h"

#include <fmt/format.h>

#include "store/catalog.h"

namespace hga {

Result<std::unique_ptr<KvTiers>> KvTiers::Make(const HistoryShape& shape,
                                               const TierOptions& options,
                                               std::unique_ptr<IoBackend> io) {
  std::unique_ptr<KvTiers> tiers(new KvTiers(shape, options, std::move(io)));
  tiers->cells_per_sector_ = Transfers::CellsPerSector(shape);
  HGA_RETURN_IF_ERROR(tiers->pool_.AddSlots(options.slots));
  HGA_ASSIGN_OR_RETURN(
      tiers->transfers_,
      Transfers::Make(tiers->io_.get(), shape, options.single_buffers, options.whole_buffers));
  return tiers;
}

KvTiers::~KvTiers() = default;

bool KvTiers::WriteUnsaved() {
  // Only a wish: without it the quota is what it was.
  static_cast<void>(Measure());
  for (TransferOwner* owner : owners_) owner->WriteUnsaved();
  return transfers_->under_way() > 0;
}

void KvTiers::Drain() {
  while (transfers_->under_way() > 0) transfers_->Reap(1);
}

Status KvTiers::TakeDisk(int64_t bytes, bool named) {
  if (options_.disk_bytes > 0 && disk_used_ + bytes > options_.disk_bytes) {
    return ResourceExhausted(
        fmt::format("{}: the record files have {} bytes, {} more exceed the quota of {}",
                    options_.directory, disk_used_, bytes, options_.disk_bytes));
  }
  GiveDisk(-bytes, named);
  return OkStatus();
}

void KvTiers::GiveDisk(int64_t bytes, bool named) {
  disk_used_ -= bytes;
  if (!named) unnamed_ -= bytes;
}

Status KvTiers::Measure() {
  if (options_.disk_bytes == 0) return OkStatus();
  // Sizes only, no transfers: something may be under way.
  HGA_ASSIGN_OR_RETURN(const int64_t sessions, Catalog(io_.get(), options_.directory).Usage());
  disk_used_ = sessions + unnamed_;
  return OkStatus();
}

}  // namespace hga
