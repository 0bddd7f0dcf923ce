// SPDX-License-Identifier: Apache-2.0
// Methods of texts, dicts and loops. What Python has beyond them is refused by name.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "base/file.h"
#include "base/utf8.h"
#include "model/chat_template_builtins.h"
#include "model/chat_template_case.h"

namespace hga::chat {
namespace {

using Method = Result<Value> (*)(Evaluator& run, const TrackedText& text, const Call& call);

template <Side side>
Result<Value> StripMethod(Evaluator& run, const TrackedText& text, const Call& call) {
  HGA_ASSIGN_OR_RETURN(const auto given, run.Bind(call, {"chars"}));
  if (given[0] == nullptr || given[0]->Is<None>()) {
    return run.MakeText(call.offset, Strip(text, nullptr, side));
  }
  HGA_ASSIGN_OR_RETURN(const TrackedText* chars, TextArgument(run, call, *given[0], "chars"));
  return run.MakeText(call.offset, Strip(text, &chars->bytes(), side));
}

// Pieces between white space, as split() without a separator gives them.
std::vector<TextRange> Words(std::string_view text, int64_t most) {
  std::vector<TextRange> words;
  size_t at = 0;
  const auto space = [&](size_t i) { return IsPythonSpace(FirstUtf8(text.substr(i)).code_point); };
  while (true) {
    while (at < text.size() && space(at)) at += FirstUtf8(text.substr(at)).bytes;
    if (at == text.size()) return words;
    const size_t begin = at;
    if (most >= 0 && static_cast<int64_t>(words.size()) == most) {
      size_t end = text.size();  // the rest is one piece, without white space behind it
      while (end > begin) {
        size_t start = end - 1;
        while ((static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) --start;
        if (!space(start)) break;
        end = start;
      }
      words.push_back({begin, end});
      return words;
    }
    while (at < text.size() && !space(at)) at += FirstUtf8(text.substr(at)).bytes;
    words.push_back({begin, at});
  }
}

std::vector<TextRange> Pieces(const std::string& text, const std::string& separator, int64_t most,
                              bool from_right) {
  std::vector<TextRange> pieces;
  size_t begin = 0;
  size_t end = text.size();
  while (most < 0 || static_cast<int64_t>(pieces.size()) < most) {
    if (!from_right) {
      const size_t found = text.find(separator, begin);
      if (found == std::string::npos) break;
      pieces.push_back({begin, found});
      begin = found + separator.size();
    } else {
      if (end < separator.size()) break;
      const size_t found = text.rfind(separator, end - separator.size());
      if (found == std::string::npos) break;
      pieces.push_back({found + separator.size(), end});
      end = found;
    }
  }
  pieces.push_back({begin, end});
  if (from_right) std::reverse(pieces.begin(), pieces.end());
  return pieces;
}

template <bool from_right>
Result<Value> Split(Evaluator& run, const TrackedText& text, const Call& call) {
  HGA_ASSIGN_OR_RETURN(const auto given, run.Bind(call, {"sep", "maxsplit"}));
  int64_t most = -1;
  if (given[1] != nullptr) {
    HGA_ASSIGN_OR_RETURN(most, IntegerArgument(run, call, *given[1], "maxsplit"));
  }
  HGA_RETURN_IF_ERROR(run.ChargeBytes(call.offset, text.size()));
  std::vector<TextRange> ranges;
  if (given[0] == nullptr || given[0]->Is<None>()) {
    if (from_right && most >= 0) {
      return run.Error(call.offset, "rsplit: at white space and with a limit is not known here");
    }
    ranges = Words(text.bytes(), most);
  } else {
    HGA_ASSIGN_OR_RETURN(const TrackedText* separator, TextArgument(run, call, *given[0], "sep"));
    if (separator->empty()) return run.Error(call.offset, "split: the separator is empty");
    ranges = Pieces(text.bytes(), separator->bytes(), most, from_right);
  }
  std::vector<Value> pieces;
  for (const TextRange& range : ranges) {
    HGA_ASSIGN_OR_RETURN(Value piece, run.MakeText(call.offset, text.Part(range.begin, range.end)));
    pieces.push_back(std::move(piece));
  }
  return run.MakeList(call.offset, std::move(pieces));
}

Result<Value> SplitLines(Evaluator& run, const TrackedText& text, const Call& call) {
  HGA_RETURN_IF_ERROR(run.Bind(call, {}).status());
  const std::string& bytes = text.bytes();
  std::vector<Value> lines;
  size_t begin = 0;
  for (size_t at = 0; at < bytes.size();) {
    const Utf8Step step = FirstUtf8(std::string_view(bytes).substr(at));
    const char32_t c = step.code_point;
    const size_t here = at;
    at += step.bytes;
    const bool ends = (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 ||
                      c == 0x2028 || c == 0x2029;
    if (!ends && at < bytes.size()) continue;
    if (c == '\r' && at < bytes.size() && bytes[at] == '\n') ++at;
    HGA_ASSIGN_OR_RETURN(Value line, run.MakeText(call.offset, text.Part(begin, ends ? here : at)));
    lines.push_back(std::move(line));
    begin = at;
  }
  return run.MakeList(call.offset, std::move(lines));
}

// startswith and endswith, of one text or any of several.
template <bool at_end>
Result<Value> Begins(Evaluator& run, const TrackedText& text, const Call& call) {
  HGA_ASSIGN_OR_RETURN(const auto given, run.Bind(call, {"text"}, 1));
  std::vector<Value> wanted = {*given[0]};
  const ListValue* list = given[0]->list();
  if (list != nullptr && list->kind == ListKind::kTuple) wanted = list->items;
  bool any = false;
  for (const Value& value : wanted) {
    HGA_ASSIGN_OR_RETURN(const TrackedText* part, TextArgument(run, call, value, "text"));
    any |= at_end ? text.bytes().ends_with(part->bytes()) : text.bytes().starts_with(part->bytes());
  }
  return Value(any);
}

template <bool at_end>
Result<Value> Remove(Evaluator& run, const TrackedText& text, const Call& call) {
  HGA_ASSIGN_OR_RETURN(const auto given, run.Bind(call, {"text"}, 1));
  HGA_ASSIGN_OR_RETURN(const TrackedText* part, TextArgument(run, call, *given[0], "text"));
  const size_t size = text.size();
  if (at_end && text.bytes().ends_with(part->bytes())) {
    return run.MakeText(call.offset, text.Part(0, size - part->size()));
  }
  if (!at_end && text.bytes().starts_with(part->bytes())) {
    return run.MakeText(call.offset, text.Part(part->size(), size));
  }
  return run.MakeText(call.offset, text);
}

template <bool last>
Result<Value> Find(Evaluator& run, const TrackedText& text, const Call& call) {
  HGA_ASSIGN_OR_RETURN(const auto given, run.Bind(call, {"text"}, 1));
  HGA_ASSIGN_OR_RETURN(const TrackedText* part, TextArgument(run, call, *given[0], "text"));
  HGA_RETURN_IF_ERROR(run.ChargeBytes(call.offset, text.size()));
  const size_t found = last ? text.bytes().rfind(part->bytes()) : text.bytes().find(part->bytes());
  if (found == std::string::npos) return Value(int64_t{-1});
  return Value(static_cast<int64_t>(CountCharacters(text.bytes().substr(0, found))));
}

Result<Value> Count(Evaluator& run, const TrackedText& text, const Call& call) {
  HGA_ASSIGN_OR_RETURN(const auto given, run.Bind(call, {"text"}, 1));
  HGA_ASSIGN_OR_RETURN(const TrackedText* part, TextArgument(run, call, *given[0], "text"));
  HGA_RETURN_IF_ERROR(run.ChargeBytes(call.offset, text.size()));
  if (part->empty()) return Value(static_cast<int64_t>(CountCharacters(text.bytes())) + 1);
  int64_t count = 0;
  for (size_t at = text.bytes().find(part->bytes()); at != std::string::npos;
       at = text.bytes().find(part->bytes(), at + part->size())) {
    ++count;
  }
  return Value(count);
}

template <Casing casing>
Result<Value> Case(Evaluator& run, const TrackedText& text, const Call& call) {
  HGA_RETURN_IF_ERROR(run.Bind(call, {}).status());
  HGA_RETURN_IF_ERROR(run.ChargeBytes(call.offset, text.size() * 8));
  size_t refused = 0;
  std::optional<TrackedText> changed = ChangeCase(text, casing, &refused);
  if (changed) return run.MakeText(call.offset, *std::move(changed));
  return run.Error(
      call.offset,
      fmt::format("{}: the character at byte {} changes case into several", call.name, refused));
}

template <bool (*is)(char32_t)>
Result<Value> All(Evaluator& run, const TrackedText& text, const Call& call) {
  HGA_RETURN_IF_ERROR(run.Bind(call, {}).status());
  HGA_RETURN_IF_ERROR(run.ChargeBytes(call.offset, text.size() * 8));
  for (size_t at = 0; at < text.size();) {
    const Utf8Step step = FirstUtf8(std::string_view(text.bytes()).substr(at));
    if (!is(step.code_point)) return Value(false);
    at += step.bytes;
  }
  return Value(!text.empty());
}

Result<Value> JoinMethod(Evaluator& run, const TrackedText& text, const Call& call) {
  HGA_ASSIGN_OR_RETURN(const auto given, run.Bind(call, {"iterable"}, 1));
  HGA_ASSIGN_OR_RETURN(const std::vector<Value> items, run.Items(call.offset, *given[0]));
  for (const Value& item : items) {
    HGA_RETURN_IF_ERROR(TextArgument(run, call, item, "item").status());
  }
  return Join(run, call.offset, items, text);
}

struct Entry {
  std::string_view name;
  Method method;
};
constexpr Entry kTextMethods[] = {
    {"capitalize", Case<Casing::kCapitalize>},
    {"count", Count},
    {"endswith", Begins<true>},
    {"find", Find<false>},
    {"isalpha", All<IsLetter>},
    {"isdecimal", All<IsDecimalDigit>},
    {"isspace", All<IsPythonSpace>},
    {"join", JoinMethod},
    {"lower", Case<Casing::kLower>},
    {"lstrip", StripMethod<Side::kLeft>},
    {"removeprefix", Remove<false>},
    {"removesuffix", Remove<true>},
    {"replace", Replace},
    {"rfind", Find<true>},
    {"rsplit", Split<true>},
    {"rstrip", StripMethod<Side::kRight>},
    {"split", Split<false>},
    {"splitlines", SplitLines},
    {"startswith", Begins<false>},
    {"strip", StripMethod<Side::kBoth>},
    {"title", Case<Casing::kTitle>},
    {"upper", Case<Casing::kUpper>},
};

constexpr std::string_view kTextOthers[] = {
    "casefold",   "center",   "encode",    "expandtabs",   "format",    "format_map", "index",
    "isalnum",    "isascii",  "isdigit",   "isidentifier", "islower",   "isnumeric",  "isprintable",
    "istitle",    "isupper",  "ljust",     "maketrans",    "partition", "rindex",     "rjust",
    "rpartition", "swapcase", "translate", "zfill"};
constexpr std::string_view kDictMethods[] = {"get", "items", "keys", "values"};
constexpr std::string_view kDictOthers[] = {"clear",   "copy",       "fromkeys", "pop",
                                            "popitem", "setdefault", "update"};
constexpr std::string_view kListOthers[] = {"append", "clear",   "copy",   "count",
                                            "extend", "index",   "insert", "pop",
                                            "remove", "reverse", "sort"};

template <typename List>
bool Has(const List& list, std::string_view name) {
  return std::find(std::begin(list), std::end(list), name) != std::end(list);
}

Method FindTextMethod(std::string_view name) {
  for (const Entry& entry : kTextMethods) {
    if (entry.name == name) return entry.method;
  }
  return nullptr;
}

Result<Value> RunDictMethod(Evaluator& run, const DictValue& dict, const Call& call) {
  if (call.name == "get") {
    HGA_ASSIGN_OR_RETURN(const auto given, run.Bind(call, {"key", "default"}, 1));
    const Value* value = dict.Find(*given[0]);
    if (value != nullptr) return *value;
    return given[1] != nullptr ? *given[1] : Value(None{}, false);
  }
  HGA_RETURN_IF_ERROR(run.Bind(call, {}).status());
  HGA_RETURN_IF_ERROR(run.Charge(call.offset, dict.items.size()));
  std::vector<Value> items;
  for (const auto& [key, value] : dict.items) {
    items.push_back(call.name == "keys"     ? key
                    : call.name == "values" ? value
                                            : ListOf({key, value}, ListKind::kTuple));
  }
  return run.MakeList(call.offset, std::move(items), ListKind::kView);
}

}  // namespace

MethodKind TextMethod(std::string_view name) {
  if (FindTextMethod(name) != nullptr) return MethodKind::kKnown;
  return Has(kTextOthers, name) ? MethodKind::kUnknown : MethodKind::kNone;
}

MethodKind DictMethod(std::string_view name) {
  if (Has(kDictMethods, name)) return MethodKind::kKnown;
  return Has(kDictOthers, name) ? MethodKind::kUnknown : MethodKind::kNone;
}

MethodKind ListMethod(std::string_view name) {
  return Has(kListOthers, name) ? MethodKind::kUnknown : MethodKind::kNone;
}

Result<Value> RunMethod(Evaluator& run, const Value& self, const Call& call) {
  if (const TrackedText* text = self.text()) return FindTextMethod(call.name)(run, *text, call);
  if (const DictValue* dict = self.dict()) return RunDictMethod(run, *dict, call);
  const auto* loop = self.As<Value::Loop>();
  if (loop == nullptr || call.arguments.empty() || !call.named.empty()) {
    return run.Error(call.offset, "loop.cycle needs values");
  }
  return call.arguments[(*loop)->index % call.arguments.size()];
}

}  // namespace hga::chat
