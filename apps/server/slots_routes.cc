// SPDX-License-Identifier: Apache-2.0
// What the scheduler's slots hold, and forgetting it.
#include <fmt/core.h>

#include <algorithm>
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

double Milliseconds() {
  return std::chrono::duration<double, std::milli>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// A plain name, never a path.
std::string ReadName(Fields& fields) {
  const std::string name = fields.Text("filename", kLimits.slot_name_bytes).value_or("");
  const auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.';
  };
  if (name.empty() || name.front() == '.' || !std::ranges::all_of(name, fits)) {
    fields.Fail("filename", "must be letters, digits, '_', '-' or '.', with no '.' in front");
  }
  return name;
}

void SaveOrRestore(Service* service, const RouteCall& call, int slot, bool save) {
  Json body;
  if (!ReadBody(call, &body)) return;
  Fields fields(body);
  const std::string name = ReadName(fields);
  if (!CheckFields(service, call, fields)) return;
  const double start = Milliseconds();
  const auto tokens = save ? service->scheduler->SaveSlot(slot, name, call.request.owner)
                           : service->scheduler->RestoreSlot(slot, name, call.request.owner);
  if (!tokens.ok()) return Fail(call, FromStatus(tokens.status()));
  RespondJson(call, {{"id_slot", slot},
                     {"filename", name},
                     {save ? "n_saved" : "n_restored", *tokens},
                     {"timings", {{save ? "save_ms" : "restore_ms", Milliseconds() - start}}}});
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
  if (action == "erase") {
    const double start = Milliseconds();
    const auto erased = service->scheduler->EraseSlot(slot, call.request.owner);
    if (!erased.ok()) return Fail(call, FromStatus(erased.status()));
    return RespondJson(call, {{"id_slot", slot},
                              {"n_erased", *erased},
                              {"timings", {{"erase_ms", Milliseconds() - start}}}});
  }
  if (action != "save" && action != "restore") {
    return Fail(call, {400, "action must be save, restore or erase", "action"});
  }
  SaveOrRestore(service, call, slot, action == "save");
}

void ReadSlotFields(Fields& fields, const ServedModel&) { ReadName(fields); }

}  // namespace hga::server
