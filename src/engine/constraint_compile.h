// SPDX-License-Identifier: Apache-2.0
// Schemas become rules of a machine.
#ifndef HGA_ENGINE_CONSTRAINT_COMPILE_H_
#define HGA_ENGINE_CONSTRAINT_COMPILE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/constraint_json.h"
#include "engine/constraint_machine.h"
#include "engine/constraint_schema.h"
#include "hga/status.h"

namespace hga {

// Compiles the schemas of one document. Several compilers may fill one machine.
class SchemaCompiler {
 public:
  // All must outlive this. `char_work` bounds the work on patterns (see Determinise).
  SchemaCompiler(Schema* schema, Machine* machine, JsonRules* rules, int64_t* char_work)
      : schema_(*schema), machine_(*machine), rules_(*rules), char_work_(char_work) {}

  // A rule for the values that fulfil all of `nodes`, with all rules that it calls.
  Result<int> Compile(Conjunction nodes);

 private:
  struct Property {
    std::string name;
    int rule;
    bool is_required;
  };
  struct Sizes {
    int64_t least = 0, most = -1;  // < 0: without end
  };

  int RuleFor(Conjunction nodes);
  int KeyRule(const std::vector<Property>& known);
  Status Build(const Conjunction& nodes, int rule);
  Status AddAlternative(const Conjunction& nodes, RuleDraft* draft);
  Status AddLiterals(const Conjunction& nodes, unsigned types,
                     const std::vector<const Json*>& values, RuleDraft* draft);
  Result<bool> Allows(const Conjunction& nodes, const Json& value);
  Status AddNumbers(const Conjunction& nodes, bool whole, RuleDraft* draft);
  Status AddString(const Conjunction& nodes, RuleDraft* draft);
  void AddArray(const Conjunction& nodes, RuleDraft* draft);
  void AddObject(const Conjunction& nodes, RuleDraft* draft);
  std::vector<Property> PropertiesOf(const Conjunction& nodes);
  // What patterns and formats leave; nothing without any.
  Result<std::optional<CharDfa>> TextsOf(const Conjunction& nodes);
  Result<std::optional<CharDfa>> JoinPattern(std::optional<CharDfa> joined,
                                             std::string_view pattern, const Json& node);
  static Sizes SizesOf(const Conjunction& nodes, const char* least, const char* most);

  Schema& schema_;
  Machine& machine_;
  JsonRules& rules_;
  int64_t* char_work_;
  std::map<Conjunction, int> known_;
  std::vector<std::pair<Conjunction, int>> waiting_;
  std::map<std::vector<std::string>, int> key_rules_;
  Status status_;  // the first error where a number is returned
};

}  // namespace hga

#endif  // HGA_ENGINE_CONSTRAINT_COMPILE_H_
