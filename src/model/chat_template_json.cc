// SPDX-License-Identifier: Apache-2.0
// Reading event by event, without a tree of the library between; writing as Python's json.dumps.
#include "model/chat_template_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/utf8.h"
#include "model/chat_template_builtins.h"

namespace hga::chat {
namespace {

using nlohmann::json;

// What nlohmann's parser calls. Each function returns false to stop it.
class Builder {
 public:
  explicit Builder(std::string_view name) : name_(name) {}

  bool null() { return Add(Value(None{})); }
  bool boolean(bool value) { return Add(Value(value)); }
  bool number_integer(json::number_integer_t value) { return Add(Value(int64_t{value})); }
  bool number_unsigned(json::number_unsigned_t value) {
    if (value <= static_cast<uint64_t>(INT64_MAX)) return Add(Value(static_cast<int64_t>(value)));
    return Big(fmt::format("{}", value));
  }
  bool number_float(json::number_float_t value, const std::string& text) {
    if (text.find_first_of(".eE") == std::string::npos) return Big(text);
    return Add(Value(double{value}));
  }
  bool string(std::string& text) { return Add(TextValue(std::move(text), false)); }
  bool binary(json::binary_t&) { return false; }
  bool start_object(size_t) { return Open(true); }
  bool start_array(size_t) { return Open(false); }
  bool key(std::string& text) {
    open_.back().key = std::move(text);
    return Count();
  }
  bool end_object() {
    DictValue dict = std::move(open_.back().dict);
    open_.pop_back();
    return Add(DictOf(std::move(dict)));
  }
  bool end_array() {
    std::vector<Value> items = std::move(open_.back().items);
    open_.pop_back();
    return Add(ListOf(std::move(items)));
  }
  bool parse_error(size_t position, const std::string&, const json::exception&) {
    status_ = InvalidArgument(fmt::format("{}: not valid JSON at byte {}", name_, position));
    return false;
  }

  Result<Value> Take() {
    if (!status_.ok()) return status_;
    return std::move(root_);
  }

 private:
  struct Level {
    bool object = false;
    std::string key;
    DictValue dict;
    std::vector<Value> items;
  };

  bool Big(std::string digits) {
    return Add(Value(BigNumber{std::make_shared<const std::string>(std::move(digits))}));
  }

  bool Count() {
    if (++values_ <= kJsonValuesMax) return true;
    status_ = ResourceExhausted(fmt::format("{}: more than {} values", name_, kJsonValuesMax));
    return false;
  }

  bool Open(bool object) {
    if (open_.size() >= static_cast<size_t>(kJsonDepthMax)) {
      status_ =
          ResourceExhausted(fmt::format("{}: nested more than {} deep", name_, kJsonDepthMax));
      return false;
    }
    open_.emplace_back();
    open_.back().object = object;
    return true;
  }

  bool Add(Value value) {
    if (open_.empty()) {
      root_ = std::move(value);
    } else if (open_.back().object) {
      Level& level = open_.back();
      level.dict.Set(TextValue(std::move(level.key), false), std::move(value));
    } else {
      open_.back().items.push_back(std::move(value));
    }
    return Count();
  }

  std::string name_;
  std::vector<Level> open_;
  Value root_;
  size_t values_ = 0;
  Status status_;
};

// One call of json.dumps.
class Writer {
 public:
  Writer(Evaluator& run, size_t offset) : run_(run), offset_(offset) {}

  bool ascii = false;
  bool sort_keys = false;
  std::optional<std::string> indent;
  std::string item_separator = ", ";
  std::string key_separator = ": ";

  Status Write(const Value& value, int level) {
    HGA_RETURN_IF_ERROR(run_.Charge(offset_, 1));
    HGA_RETURN_IF_ERROR(run_.CheckSize(offset_, out_.size()));
    if (const TrackedText* text = value.text()) {
      HGA_RETURN_IF_ERROR(run_.ChargeBytes(offset_, text->size()));
      WriteText(*text);
    } else if (value.Is<None>() || value.IsNumber()) {
      out_.Append(Scalar(value), false);
    } else if (const ListValue* list = value.list(); list != nullptr && list->plain()) {
      return WriteList(*list, level);
    } else if (const DictValue* dict = value.dict()) {
      return WriteDict(*dict, level);
    } else {
      return run_.Error(offset_, value.TypeName() + " can't become JSON");
    }
    return OkStatus();
  }

  TrackedText Take() { return std::move(out_); }

 private:
  static std::string Scalar(const Value& value) {
    if (value.Is<None>()) return "null";
    if (const auto* truth = value.As<bool>()) return *truth ? "true" : "false";
    if (const auto* whole = value.As<int64_t>()) return fmt::format("{}", *whole);
    if (const auto* big = value.As<BigNumber>()) return *big->digits;
    return FloatText(*value.As<double>());
  }

  void WriteText(const TrackedText& text) {
    const std::string_view bytes = text.bytes();
    TrustCursor trust(text);
    out_.Append("\"", false);
    size_t plain = 0;  // begin of what needs no escape
    for (size_t at = 0; at < bytes.size();) {
      const auto c = static_cast<unsigned char>(bytes[at]);
      const bool escapes = c < 0x20 || c == '"' || c == '\\' || (ascii && c >= 0x80);
      if (!escapes) {
        ++at;
        continue;
      }
      out_.AppendPart(text, plain, at);
      const Utf8Step step = FirstUtf8(bytes.substr(at));
      out_.Append(Escape(step.code_point), trust.At(at));
      at += step.bytes;
      plain = at;
    }
    out_.AppendPart(text, plain, bytes.size());
    out_.Append("\"", false);
  }

  static std::string Escape(char32_t c) {
    constexpr std::string_view kShort = "\"\\\n\r\t\f\b";
    constexpr std::string_view kLetter = "\"\\nrtfb";
    const size_t known = c < 0x80 ? kShort.find(static_cast<char>(c)) : std::string_view::npos;
    if (known != std::string_view::npos) return {'\\', kLetter[known]};
    const auto code = static_cast<uint32_t>(c);
    if (code < 0x10000) return fmt::format("\\u{:04x}", code);
    const uint32_t rest = code - 0x10000;
    return fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + (rest >> 10), 0xDC00 + (rest & 0x3FF));
  }

  void NewLine(int level) {
    if (!indent) return;
    out_.Append("\n", false);
    for (int i = 0; i < level; ++i) out_.Append(*indent, false);
  }

  Status WriteList(const ListValue& list, int level) {
    if (list.items.empty()) {
      out_.Append("[]", false);
      return OkStatus();
    }
    out_.Append("[", false);
    for (size_t i = 0; i < list.items.size(); ++i) {
      if (i > 0) out_.Append(item_separator, false);
      NewLine(level + 1);
      HGA_RETURN_IF_ERROR(Write(list.items[i], level + 1));
    }
    NewLine(level);
    out_.Append("]", false);
    return OkStatus();
  }

  Status WriteDict(const DictValue& dict, int level) {
    if (dict.items.empty()) {
      out_.Append("{}", false);
      return OkStatus();
    }
    std::vector<const std::pair<Value, Value>*> items;
    for (const auto& item : dict.items) items.push_back(&item);
    if (sort_keys) {
      for (const auto* item : items) {
        if (item->first.text() == nullptr) return run_.Error(offset_, "only texts can be sorted");
      }
      std::sort(items.begin(), items.end(), [](const auto* a, const auto* b) {
        return a->first.text()->bytes() < b->first.text()->bytes();
      });
    }
    out_.Append("{", false);
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_.Append(item_separator, false);
      NewLine(level + 1);
      const Value& key = items[i]->first;
      WriteText(key.text() != nullptr ? *key.text() : TrackedText(Scalar(key), false));
      out_.Append(key_separator, false);
      HGA_RETURN_IF_ERROR(Write(items[i]->second, level + 1));
    }
    NewLine(level);
    out_.Append("}", false);
    return OkStatus();
  }

  Evaluator& run_;
  size_t offset_;
  TrackedText out_;
};

Status SetIndent(Evaluator& run, const Call& call, const Value& value, Writer* writer) {
  if (value.Is<None>()) return OkStatus();
  writer->item_separator = ",";
  if (value.text() != nullptr) {
    writer->indent = value.text()->bytes();
  } else {
    HGA_ASSIGN_OR_RETURN(const int64_t width, IntegerArgument(run, call, value, "indent"));
    if (width > 100) return run.Exhausted(call.offset, "tojson: indent is more than 100");
    writer->indent = std::string(static_cast<size_t>(std::max<int64_t>(width, 0)), ' ');
  }
  if (writer->indent->size() <= 100) return OkStatus();
  return run.Exhausted(call.offset, "tojson: indent is more than 100");
}

}  // namespace

Result<Value> ParseJson(std::string_view text, std::string_view name) {
  if (text.size() > kJsonBytesMax) {
    return ResourceExhausted(
        fmt::format("{}: {} bytes, at most {} are allowed", name, text.size(), kJsonBytesMax));
  }
  Builder builder(name);
  json::sax_parse(text.begin(), text.end(), &builder);
  return builder.Take();
}

Result<Value> ToJson(Evaluator& run, const Value& input, const Call& call) {
  HGA_ASSIGN_OR_RETURN(const auto given,
                       run.Bind(call, {"ensure_ascii", "indent", "separators", "sort_keys"}));
  Writer writer(run, call.offset);
  writer.ascii = given[0] != nullptr && given[0]->Truth();
  if (given[1] != nullptr) HGA_RETURN_IF_ERROR(SetIndent(run, call, *given[1], &writer));
  if (given[2] != nullptr && !given[2]->Is<None>()) {
    HGA_ASSIGN_OR_RETURN(const std::vector<Value> pair, run.Items(call.offset, *given[2]));
    if (pair.size() != 2) return run.Error(call.offset, "tojson: two separators are needed");
    HGA_ASSIGN_OR_RETURN(const TrackedText* item, TextArgument(run, call, pair[0], "separators"));
    HGA_ASSIGN_OR_RETURN(const TrackedText* key, TextArgument(run, call, pair[1], "separators"));
    writer.item_separator = item->bytes();
    writer.key_separator = key->bytes();
  }
  writer.sort_keys = given[3] != nullptr && given[3]->Truth();
  HGA_RETURN_IF_ERROR(writer.Write(input, 0));
  return run.MakeText(call.offset, writer.Take());
}

}  // namespace hga::chat
