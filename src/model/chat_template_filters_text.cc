// SPDX-License-Identifier: Apache-2.0
// Filters and helpers for texts and numbers. Each byte of a result keeps its origin.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "base/file.h"
#include "base/utf8.h"
#include "model/chat_template_builtins.h"
#include "model/chat_template_case.h"

namespace hga::chat {

std::vector<size_t> CharacterOffsets(std::string_view text) {
  std::vector<size_t> places;
  places.reserve(text.size() + 1);
  for (size_t i = 0; i < text.size(); ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xC0) != 0x80) places.push_back(i);
  }
  places.push_back(text.size());
  return places;
}

size_t CountCharacters(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

Result<int64_t> IntegerArgument(Evaluator& run, const Call& call, const Value& value,
                                std::string_view name) {
  if (const auto* whole = value.As<int64_t>()) return *whole;
  if (const auto* truth = value.As<bool>()) return int64_t{*truth ? 1 : 0};
  return run.Error(call.offset, fmt::format("{}: '{}' must be a whole number, not {}", call.name,
                                            name, value.TypeName()));
}

Result<const TrackedText*> TextArgument(Evaluator& run, const Call& call, const Value& value,
                                        std::string_view name) {
  if (value.text() != nullptr) return value.text();
  return run.Error(call.offset, fmt::format("{}: '{}' must be a text, not {}", call.name, name,
                                            value.TypeName()));
}

TrackedText Strip(const TrackedText& text, const std::string* chars, Side side) {
  const std::string_view bytes = text.bytes();
  const auto strips = [chars](std::string_view character) {
    if (chars == nullptr) return IsPythonSpace(FirstUtf8(character).code_point);
    return chars->find(character) != std::string::npos;  // UTF-8: only whole characters match
  };
  size_t begin = 0;
  size_t end = bytes.size();
  while (side != Side::kRight && begin < end) {
    const size_t length = FirstUtf8(bytes.substr(begin)).bytes;
    if (!strips(bytes.substr(begin, length))) break;
    begin += length;
  }
  while (side != Side::kLeft && end > begin) {
    size_t start = end - 1;
    while (start > begin && (static_cast<unsigned char>(bytes[start]) & 0xC0) == 0x80) --start;
    if (!strips(bytes.substr(start, end - start))) break;
    end = start;
  }
  return text.Part(begin, end);
}

Result<Value> Replace(Evaluator& run, const TrackedText& text, const Call& call) {
  HGA_ASSIGN_OR_RETURN(const auto given, run.Bind(call, {"old", "new", "count"}, 2));
  HGA_ASSIGN_OR_RETURN(const TrackedText* old, TextArgument(run, call, *given[0], "old"));
  HGA_ASSIGN_OR_RETURN(const TrackedText* by, TextArgument(run, call, *given[1], "new"));
  int64_t count = -1;
  if (given[2] != nullptr && !given[2]->Is<None>()) {
    HGA_ASSIGN_OR_RETURN(count, IntegerArgument(run, call, *given[2], "count"));
  }
  if (old->empty()) return run.Error(call.offset, "replace: the text to replace is empty");
  TrackedText out;
  size_t at = 0;
  while (count != 0) {
    const size_t found = text.bytes().find(old->bytes(), at);
    if (found == std::string::npos) break;
    out.AppendPart(text, at, found);
    out.Append(*by);
    HGA_RETURN_IF_ERROR(run.CheckSize(call.offset, out.size()));
    at = found + old->size();
    if (count > 0) --count;
  }
  out.AppendPart(text, at, text.size());
  return run.MakeText(call.offset, std::move(out));
}

Result<Value> Join(Evaluator& run, size_t offset, const std::vector<Value>& items,
                   const TrackedText& separator) {
  TrackedText out;
  for (size_t i = 0; i < items.size(); ++i) {
    HGA_ASSIGN_OR_RETURN(const Value::Text text, run.ToText(offset, items[i]));
    HGA_RETURN_IF_ERROR(run.CheckSize(offset, out.size() + separator.size() + text->size()));
    if (i > 0) out.Append(separator);
    out.Append(*text);
  }
  return run.MakeText(offset, std::move(out));
}

namespace {

Result<Value> Trim(Evaluator& run, const Value& input, const Call& call) {
  HGA_ASSIGN_OR_RETURN(const auto given, run.Bind(call, {"chars"}));
  HGA_ASSIGN_OR_RETURN(const Value::Text text, run.ToText(call.offset, input));
  const std::string* chars = nullptr;
  if (given[0] != nullptr && !given[0]->Is<None>()) {
    HGA_ASSIGN_OR_RETURN(const TrackedText* argument, TextArgument(run, call, *given[0], "chars"));
    chars = &argument->bytes();
  }
  return run.MakeText(call.offset, Strip(*text, chars, Side::kBoth));
}

template <Casing casing>
Result<Value> Case(Evaluator& run, const Value& input, const Call& call) {
  HGA_RETURN_IF_ERROR(run.Bind(call, {}).status());
  HGA_ASSIGN_OR_RETURN(const Value::Text text, run.ToText(call.offset, input));
  HGA_RETURN_IF_ERROR(run.ChargeBytes(call.offset, text->size() * 8));
  size_t refused = 0;
  std::optional<TrackedText> changed = ChangeCase(*text, casing, &refused);
  if (changed) return run.MakeText(call.offset, *std::move(changed));
  return run.Error(
      call.offset,
      fmt::format("{}: the character at byte {} changes case into several", call.name, refused));
}

Result<Value> ReplaceFilter(Evaluator& run, const Value& input, const Call& call) {
  HGA_ASSIGN_OR_RETURN(const Value::Text text, run.ToText(call.offset, input));
  return Replace(run, *text, call);
}

Result<Value> String(Evaluator& run, const Value& input, const Call& call) {
  HGA_RETURN_IF_ERROR(run.Bind(call, {}).status());
  HGA_ASSIGN_OR_RETURN(Value::Text text, run.ToText(call.offset, input));
  return Value(std::move(text));
}

// Lines of str.splitlines(), which knows more ends than "\n".
std::vector<TextRange> Lines(std::string_view text) {
  std::vector<TextRange> lines;
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const Utf8Step step = FirstUtf8(text.substr(at));
    const char32_t c = step.code_point;
    const size_t here = at;
    at += step.bytes;
    if (!((c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 ||
          c == 0x2029)) {
      continue;
    }
    if (c == '\r' && at < text.size() && text[at] == '\n') ++at;
    lines.push_back({begin, here});
    begin = at;
  }
  if (begin < text.size()) lines.push_back({begin, text.size()});
  return lines;
}

Result<Value> Indent(Evaluator& run, const Value& input, const Call& call) {
  HGA_ASSIGN_OR_RETURN(const auto given, run.Bind(call, {"width", "first", "blank"}));
  HGA_ASSIGN_OR_RETURN(const TrackedText* text, TextArgument(run, call, input, "value"));
  TrackedText pad(std::string(4, ' '), true);
  if (given[0] != nullptr && given[0]->text() != nullptr) {
    pad = *given[0]->text();
  } else if (given[0] != nullptr) {
    HGA_ASSIGN_OR_RETURN(const int64_t width, IntegerArgument(run, call, *given[0], "width"));
    if (width > 1000) return run.Exhausted(call.offset, "indent: more than 1000 characters");
    pad = TrackedText(std::string(static_cast<size_t>(std::max<int64_t>(width, 0)), ' '), true);
  }
  const bool first = given[1] != nullptr && given[1]->Truth();
  const bool blank = given[2] != nullptr && given[2]->Truth();
  // A newline at the very end begins one more line, an empty one.
  std::string_view bytes = text->bytes();
  std::vector<TextRange> lines = Lines(bytes);
  const bool open = bytes.empty() || lines.empty() || lines.back().end < bytes.size();
  if (open) lines.push_back({bytes.size(), bytes.size()});
  TrackedText out;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out.Append("\n", true);
    const bool empty = lines[i].begin == lines[i].end;
    if (i == 0 ? first : blank || !empty) out.Append(pad);
    out.AppendPart(*text, lines[i].begin, lines[i].end);
    HGA_RETURN_IF_ERROR(run.CheckSize(call.offset, out.size()));
  }
  return run.MakeText(call.offset, std::move(out));
}

// int(text) or float(text) of plain decimal ASCII; nothing for all else.
std::optional<Value> ParseNumber(std::string_view text, bool whole) {
  while (!text.empty() && IsPythonSpace(static_cast<unsigned char>(text.front())))
    text.remove_prefix(1);
  while (!text.empty() && IsPythonSpace(static_cast<unsigned char>(text.back())))
    text.remove_suffix(1);
  if (text.starts_with('+') && !text.starts_with("+-")) text.remove_prefix(1);
  if (text.find_first_not_of("0123456789+-.eE") != std::string_view::npos) return std::nullopt;
  const char* const end = text.data() + text.size();
  if (whole) {
    int64_t value = 0;
    const auto read = std::from_chars(text.data(), end, value);
    if (read.ec == std::errc() && read.ptr == end) return Value(value);
    return std::nullopt;
  }
  double value = 0;
  const auto read = std::from_chars(text.data(), end, value);
  if (read.ec == std::errc() && read.ptr == end) return Value(value);
  return std::nullopt;
}

Result<Value> Int(Evaluator& run, const Value& input, const Call& call) {
  HGA_ASSIGN_OR_RETURN(const auto given, run.Bind(call, {"default"}));
  if (const auto* undefined = input.As<Undefined>()) {
    return run.Error(call.offset, fmt::format("'{}' is undefined", undefined->name));
  }
  if (input.Is<int64_t>() || input.Is<BigNumber>()) return input;
  if (const auto* truth = input.As<bool>())
    return Value(int64_t{*truth ? 1 : 0}, input.from_input());
  std::optional<Value> real = input.Is<double>() ? std::optional(input) : std::nullopt;
  if (const TrackedText* text = input.text()) {
    if (auto whole = ParseNumber(text->bytes(), true)) return *whole;
    real = ParseNumber(text->bytes(), false);
  }
  const double limit = 9e18;
  if (real && std::fabs(*real->As<double>()) < limit) {
    return Value(static_cast<int64_t>(*real->As<double>()), real->from_input());
  }
  return given[0] != nullptr ? *given[0] : Value(int64_t{0}, false);
}

Result<Value> Float(Evaluator& run, const Value& input, const Call& call) {
  HGA_ASSIGN_OR_RETURN(const auto given, run.Bind(call, {"default"}));
  if (const auto* undefined = input.As<Undefined>()) {
    return run.Error(call.offset, fmt::format("'{}' is undefined", undefined->name));
  }
  if (input.Is<double>()) return input;
  if (const auto* whole = input.As<int64_t>()) {
    return Value(static_cast<double>(*whole), input.from_input());
  }
  if (const auto* truth = input.As<bool>()) return Value(*truth ? 1.0 : 0.0, input.from_input());
  if (const TrackedText* text = input.text()) {
    if (auto real = ParseNumber(text->bytes(), false)) return *real;
  }
  return given[0] != nullptr ? *given[0] : Value(0.0, false);
}

Result<Value> Abs(Evaluator& run, const Value& input, const Call& call) {
  HGA_RETURN_IF_ERROR(run.Bind(call, {}).status());
  if (const auto* real = input.As<double>()) return Value(std::fabs(*real), input.from_input());
  HGA_ASSIGN_OR_RETURN(const int64_t whole, IntegerArgument(run, call, input, "value"));
  if (whole == std::numeric_limits<int64_t>::min()) {
    return run.Error(call.offset, "a whole number beyond 64 bits");
  }
  return Value(whole < 0 ? -whole : whole, input.from_input());
}

Result<Value> Round(Evaluator& run, const Value& input, const Call& call) {
  HGA_ASSIGN_OR_RETURN(const auto given, run.Bind(call, {"precision"}));
  int64_t precision = 0;
  if (given[0] != nullptr) {
    HGA_ASSIGN_OR_RETURN(precision, IntegerArgument(run, call, *given[0], "precision"));
  }
  if (input.Is<int64_t>() && precision >= 0) return input;
  const auto* real = input.As<double>();
  if (real == nullptr || precision < 0 || precision > 300) {
    return run.Error(call.offset, "round: a number and a precision of 0 to 300 are needed");
  }
  return Value(std::strtod(fmt::format("{:.{}f}", *real, precision).c_str(), nullptr),
               input.from_input());
}

Result<Value> Safe(Evaluator& run, const Value& input, const Call& call) {
  // Nothing is escaped anywhere, so nothing must be kept from it.
  return String(run, input, call);
}

struct Entry {
  std::string_view name;
  FilterFunction function;
};
constexpr Entry kFilters[] = {
    {"abs", Abs},
    {"capitalize", Case<Casing::kCapitalize>},
    {"float", Float},
    {"indent", Indent},
    {"int", Int},
    {"lower", Case<Casing::kLower>},
    {"replace", ReplaceFilter},
    {"round", Round},
    {"safe", Safe},
    {"string", String},
    {"title", Case<Casing::kJinjaTitle>},
    {"tojson", ToJson},
    {"trim", Trim},
    {"upper", Case<Casing::kUpper>},
};

}  // namespace

FilterFunction FindTextFilter(std::string_view name) {
  for (const Entry& entry : kFilters) {
    if (entry.name == name) return entry.function;
  }
  return nullptr;
}

}  // namespace hga::chat
