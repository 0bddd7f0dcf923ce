// SPDX-License-Identifier: Apache-2.0
// Derived quantities of a routing rule, and the order in which its values are checked.
#ifndef HGA_SPEC_RULES_H_
#define HGA_SPEC_RULES_H_

#include <cstdint>

#include "hga/config.h"
#include "spec/layout.h"

namespace hga::spec {

inline int MeansPerGroup(const RoutingConfig& r) { return r.group / r.key_span; }
inline int GroupsPerChunk(const RoutingConfig& r) { return kChunk / r.group; }
inline int KeyMeansPerChunk(const RoutingConfig& r) { return kChunk / r.key_span; }
inline int ValueMeansPerChunk(const RoutingConfig& r) { return r.tail ? kChunk / r.value_span : 0; }
inline int ChunkMeansPerChunk(const RoutingConfig& r) {
  return r.chunk_beam > 0 ? kChunk / r.chunk_key_span : 0;
}
inline int GroupsPerValue(const RoutingConfig& r) { return r.value_span / r.group; }
// Who selects: KV heads or query heads.
inline int Selectors(const RoutingConfig& r, int heads, int kv_heads) {
  return r.scope == SelectionScope::kKvHead ? kv_heads : heads;
}
// Whether the layer needs summaries at all (`window` opens nothing and has no tail).
inline bool NeedsSummaries(const RoutingConfig& r) { return r.groups_budget > 0 || r.tail; }
// Whether two rules share one set of summaries.
inline bool SameSummaries(const RoutingConfig& a, const RoutingConfig& b) {
  return NeedsSummaries(a) == NeedsSummaries(b) && a.key_span == b.key_span &&
         a.key_mean == b.key_mean && a.summary_dtype == b.summary_dtype && a.tail == b.tail &&
         (!a.tail || a.value_span == b.value_span) && (a.chunk_beam > 0) == (b.chunk_beam > 0) &&
         (a.chunk_beam == 0 || a.chunk_key_span == b.chunk_key_span);
}

}  // namespace hga::spec

#endif  // HGA_SPEC_RULES_H_
