// SPDX-License-Identifier: Apache-2.0
// Forward reading of untrusted JSON with simdjson's on-demand parser: little memory beside the
// text, every byte checked, errors with file and offset.
#ifndef HGA_MODEL_JSON_SCAN_H_
#define HGA_MODEL_JSON_SCAN_H_

#include <simdjson.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "hga/status.h"

namespace hga {

// One document. Not copyable: values point into it.
class JsonScan {
 public:
  // `text` must outlive this; `offset` is its place in the file, for messages.
  JsonScan(const simdjson::padded_string& text, int64_t offset, std::string file)
      : text_(text), offset_(offset), file_(std::move(file)) {}
  JsonScan(const JsonScan&) = delete;
  JsonScan& operator=(const JsonScan&) = delete;

  // Starts reading; the document must be an object.
  Result<simdjson::ondemand::object> Root();
  // To be called after the last field: nothing but blanks may follow.
  Status Finish();
  // Passes over a value of any kind, checking its syntax; at most `depth` levels.
  Status Skip(simdjson::ondemand::value value, int depth);

  // kDataLoss: "FILE, byte N: WHAT", N being where reading has got to.
  Status Error(std::string_view what);
  // The same for text that is not JSON: "... WHERE: not valid JSON (simdjson's reason)".
  Status Syntax(std::string_view where, simdjson::error_code code);

 private:
  const simdjson::padded_string& text_;
  int64_t offset_;
  std::string file_;
  simdjson::ondemand::parser parser_;
  simdjson::ondemand::document document_;
  bool started_ = false;
};

}  // namespace hga

#endif  // HGA_MODEL_JSON_SCAN_H_
