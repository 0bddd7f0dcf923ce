// SPDX-License-Identifier: Apache-2.0
// Strict use of simdjson's on-demand parser.
#include "model/json_scan.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/file.h"

namespace hga {

namespace od = simdjson::ondemand;

Status JsonScan::Error(std::string_view what) {
  const char* at = nullptr;
  int64_t position = 0;
  if (started_) {
    position = static_cast<int64_t>(text_.size());
    if (document_.current_location().get(at) == simdjson::SUCCESS) {
      position = std::clamp<int64_t>(at - text_.data(), 0, position);
    }
  }
  return DataLoss(fmt::format("{}, byte {}: {}", Quoted(file_), offset_ + position, what));
}

Status JsonScan::Syntax(std::string_view where, simdjson::error_code code) {
  if (code == simdjson::MEMALLOC) {
    return ResourceExhausted(
        fmt::format("{}: no memory to read {} bytes of JSON", Quoted(file_), text_.size()));
  }
  return Error(fmt::format("{}: not valid JSON ({})", where, simdjson::error_message(code)));
}

Result<od::object> JsonScan::Root() {
  if (text_.size() == 0) {
    return DataLoss(fmt::format("{}, byte {}: the JSON text is empty", Quoted(file_), offset_));
  }
  if (const auto code = parser_.iterate(text_).get(document_)) return Syntax("start", code);
  started_ = true;
  od::object object;
  if (const auto code = document_.get_object().get(object)) {
    return code == simdjson::INCORRECT_TYPE ? Error("a JSON object is needed here")
                                            : Syntax("start", code);
  }
  return object;
}

Status JsonScan::Finish() {
  if (document_.current_location().error() == simdjson::OUT_OF_BOUNDS) return OkStatus();
  return Error("more text follows the end of the JSON object");
}

Status JsonScan::Skip(od::value value, int depth) {
  if (depth == 0) return Error("nested too deep");
  od::json_type type;
  if (const auto code = value.type().get(type)) return Syntax("value", code);
  simdjson::error_code code = simdjson::SUCCESS;
  switch (type) {
    case od::json_type::object: {
      od::object object;
      if ((code = value.get_object().get(object))) return Syntax("object", code);
      for (auto entry : object) {
        std::string_view key;
        od::value inner;
        if ((code = entry.unescaped_key().get(key))) return Syntax("key", code);
        if ((code = entry.value().get(inner))) return Syntax("value", code);
        HGA_RETURN_IF_ERROR(Skip(inner, depth - 1));
      }
      return OkStatus();
    }
    case od::json_type::array: {
      od::array array;
      if ((code = value.get_array().get(array))) return Syntax("array", code);
      for (auto entry : array) {
        od::value inner;
        if ((code = entry.get(inner))) return Syntax("item", code);
        HGA_RETURN_IF_ERROR(Skip(inner, depth - 1));
      }
      return OkStatus();
    }
    case od::json_type::string:
      code = value.get_string().error();
      break;
    case od::json_type::number:
      code = value.get_double().error();
      break;
    case od::json_type::boolean:
      code = value.get_bool().error();
      break;
    case od::json_type::null: {
      bool null = false;
      code = value.is_null().get(null);
      if (!code && !null) code = simdjson::N_ATOM_ERROR;
      break;
    }
  }
  return code ? Syntax("value", code) : OkStatus();
}

}  // namespace hga
