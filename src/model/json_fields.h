// SPDX-License-Identifier: Apache-2.0
// Typed, bounded access to the fields of one small JSON object (config files).
#ifndef HGA_MODEL_JSON_FIELDS_H_
#define HGA_MODEL_JSON_FIELDS_H_

#include <simdjson.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "hga/status.h"

namespace hga {

// Parses a whole document into `parser`, whose memory the result points into; at most 64 levels.
// kDataLoss names the file.
Result<simdjson::dom::object> ParseJsonObject(simdjson::dom::parser& parser, std::string_view json,
                                              const std::string& file);

// The fields of an object; `null` counts as absent. Every error is kInvalidArgument or kDataLoss
// and names file, field and value.
class JsonFields {
 public:
  enum Absent { kRefuse, kKeep };  // what to do without the field: fail, or leave *out alone

  // `path` is the object's own place, "" for the root, else ending in a dot.
  JsonFields(simdjson::dom::object object, std::string file, std::string path)
      : object_(object), file_(std::move(file)), path_(std::move(path)) {}

  Status CheckNoDuplicates() const;
  bool Has(std::string_view key) const;
  Status Integer(std::string_view key, int64_t low, int64_t high, Absent absent,
                 int64_t* out) const;
  Status Int(std::string_view key, int low, int high, Absent absent, int* out) const;
  // low <= value <= high, or low < value with `open_low`.
  Status Real(std::string_view key, double low, bool open_low, double high, Absent absent,
              double* out) const;
  Status Bool(std::string_view key, Absent absent, bool* out) const;
  Status Text(std::string_view key, Absent absent, std::string* out) const;
  // A list of whole numbers, or one alone if `single`.
  Status Integers(std::string_view key, bool single, int64_t low, int64_t high, size_t most,
                  std::vector<int64_t>* out) const;
  Status Texts(std::string_view key, size_t most, std::vector<std::string>* out) const;
  Result<JsonFields> Object(std::string_view key) const;

  // "FILE: PATH.KEY: what".
  std::string Message(std::string_view key, std::string_view what) const;
  // The value as JSON for messages, shortened.
  std::string Value(std::string_view key) const;

 private:
  std::optional<simdjson::dom::element> Find(std::string_view key) const;
  Status Missing(std::string_view key, Absent absent) const;
  Status Wrong(std::string_view key, std::string_view needed) const;

  simdjson::dom::object object_;
  std::string file_;
  std::string path_;
};

}  // namespace hga

#endif  // HGA_MODEL_JSON_FIELDS_H_
