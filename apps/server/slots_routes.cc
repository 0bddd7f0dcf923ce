// SPDX-License-Identifier: Apache-2.0
// What the scheduler's slots hold, and forgetting it.
#include <fmt/core.h>

#include <charconv>
#include <chrono>

#include "apps/server/routes.h"

namespace hga::server {
namespace {

// The value of one name in a query; "" without it.
std::string_view QueryValue(std::string_view query, std::string_view name) {
  while (!query.empty()) {
    const size_t end = std::min(query.find('&'), query.size());
    const std::string_view pair = query.substr(0, end);
    query.remove_prefix(std::min(end + 1, query.size()));
    const size_t equals = pair.find('=');
    if (pair.substr(0, equals) == name && equals != std::string_view::npos) {
      return pair.substr(equals + 1);
    }
  }
  return "";
}

}  // namespace

void GetSlots(Service* service, RouteCall call) {
  Json list = Json::array();
  for (const SlotInfo& slot : service->scheduler->slots()) {
    list.push_back({{"id", slot.id},
                    {"is_processing", slot.busy},
                    {"n_tokens", slot.tokens},
                    {"n_ctx", slot.capacity},
                    {"request", slot.request},
                    {"session", slot.session.empty() ? Json(nullptr) : Json(slot.session)},
                    {"idle_seconds", slot.idle_seconds}});
  }
  RespondJson(call, list);
}

void PostSlot(Service* service, RouteCall call) {
  int slot = -1;
  const char* end = call.id.data() + call.id.size();
  const auto [stop, error] = std::from_chars(call.id.data(), end, slot);
  if (error != std::errc() || stop != end || slot < 0) {
    return Fail(call, {400, "a slot is a number", "id"});
  }
  const std::string_view action = QueryValue(call.request.query, "action");
  if (action != "erase") {
    return Fail(call, {400,
                       "the action must be erase; slots are saved by themselves where the server "
                       "has a directory for sessions",
                       "action", "unsupported_action"});
  }
  const auto start = std::chrono::steady_clock::now();
  const auto erased = service->scheduler->EraseSlot(slot, call.request.owner);
  if (!erased.ok()) return Fail(call, FromStatus(erased.status()));
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
  RespondJson(
      call, {{"id_slot", slot}, {"n_erased", *erased}, {"timings", {{"erase_ms", took.count()}}}});
}

}  // namespace hga::server
