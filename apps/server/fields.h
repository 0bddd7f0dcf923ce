// SPDX-License-Identifier: Apache-2.0
// Reads the fields of a JSON object that a client wrote: types, ranges, names in errors.
#ifndef HGA_APPS_SERVER_FIELDS_H_
#define HGA_APPS_SERVER_FIELDS_H_

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "apps/server/api_error.h"
#include "apps/server/json.h"

namespace hga::server {

// Every field that is asked for is one the server knows, whether it is there or not. A field that
// is null counts as absent. After the first error all getters give nothing.
class Fields {
 public:
  // `prefix` goes before names in errors, for instance "messages[3].".
  explicit Fields(const Json& object, std::string prefix = "");

  const Json* Find(std::string_view name);
  std::optional<int64_t> Integer(std::string_view name, int64_t least, int64_t most);
  std::optional<double> Number(std::string_view name, double least, double most);
  std::optional<bool> Bool(std::string_view name);
  std::optional<std::string> Text(std::string_view name, int64_t most_bytes);
  const Json* Array(std::string_view name, int64_t most_items);
  const Json* Object(std::string_view name);
  // For fields that are known and have no effect.
  void Ignore(std::initializer_list<std::string_view> names);

  void Fail(std::string_view name, const std::string& message, std::string code = "");
  void Fail(ApiError error);  // as it is
  bool ok() const { return !error_.has_value(); }
  const ApiError& error() const { return *error_; }

  const std::set<std::string, std::less<>>& known() const { return known_; }
  std::vector<std::string> Unknown() const;  // there, and never asked for

 private:
  const Json& object_;
  const std::string prefix_;
  std::set<std::string, std::less<>> known_;
  std::optional<ApiError> error_;
};

// Text of one JSON value as token ids of a vocabulary. `name` is used in errors.
bool ReadIds(Fields& fields, std::string_view name, const Json& array, int vocab,
             std::vector<int32_t>* ids);

}  // namespace hga::server

#endif  // HGA_APPS_SERVER_FIELDS_H_
