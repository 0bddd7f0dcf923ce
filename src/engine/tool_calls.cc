// SPDX-License-Identifier: Apache-2.0
// A scanner with little memory: arguments pass through, only tags and heads of calls are held.
#include "hga/tool_calls.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

namespace hga {
namespace {

constexpr std::string_view kOpenTag = "<tool_call>";
constexpr std::string_view kCloseTag = "</tool_call>";
constexpr std::string_view kBlanks = " \t\r\n";
constexpr size_t kMostLevels = 200;    // of a call that is parsed as a whole
constexpr size_t kLongestHead = 4096;  // bytes; a call with a longer one is read as a whole

// Length of the longest end of `text` that begins `tag`.
size_t PartialTag(std::string_view text, std::string_view tag) {
  for (size_t length = std::min(text.size(), tag.size() - 1); length > 0; --length) {
    if (text.ends_with(tag.substr(0, length))) return length;
  }
  return 0;
}

enum class Match { kYes, kNo, kNeedsMore };

// Reads the parts of a head one after the other.
class HeadReader {
 public:
  explicit HeadReader(std::string_view text) : text_(text) {}

  Match Literal(std::string_view wanted) {
    SkipBlanks();
    const std::string_view rest = text_.substr(at_);
    if (rest.starts_with(wanted)) {
      at_ += wanted.size();
      return Match::kYes;
    }
    return wanted.starts_with(rest) ? Match::kNeedsMore : Match::kNo;
  }

  // A string with its quotes.
  Match Quoted(std::string_view* quoted) {
    SkipBlanks();
    if (at_ == text_.size()) return Match::kNeedsMore;
    if (text_[at_] != '"') return Match::kNo;
    for (size_t i = at_ + 1; i < text_.size(); ++i) {
      if (text_[i] == '\\') {
        ++i;
      } else if (text_[i] == '"') {
        *quoted = text_.substr(at_, i + 1 - at_);
        at_ = i + 1;
        return Match::kYes;
      }
    }
    return Match::kNeedsMore;
  }

  void SkipBlanks() { at_ = std::min(text_.find_first_not_of(kBlanks, at_), text_.size()); }
  size_t at() const { return at_; }

 private:
  const std::string_view text_;
  size_t at_ = 0;
};

// `{"name": NAME, "arguments": {`, up to the last brace. kNo: it does not begin like that.
Match ReadHeadOfAnyLength(std::string_view text, std::string* name, size_t* arguments) {
  HeadReader reader(text);
  for (const std::string_view piece : {"{", "\"name\"", ":"}) {
    if (const Match match = reader.Literal(piece); match != Match::kYes) return match;
  }
  std::string_view quoted;
  if (const Match match = reader.Quoted(&quoted); match != Match::kYes) return match;
  for (const std::string_view piece : {",", "\"arguments\"", ":"}) {
    if (const Match match = reader.Literal(piece); match != Match::kYes) return match;
  }
  reader.SkipBlanks();
  *arguments = reader.at();
  if (const Match match = reader.Literal("{"); match != Match::kYes) return match;
  const nlohmann::json parsed = nlohmann::json::parse(quoted, nullptr, false);
  if (!parsed.is_string() || parsed.get_ref<const std::string&>().empty()) return Match::kNo;
  *name = parsed.get<std::string>();
  return Match::kYes;
}

// Bounded, so that a head that comes byte by byte is not read again and again.
Match ReadUsualHead(std::string_view text, std::string* name, size_t* arguments) {
  const Match match = ReadHeadOfAnyLength(text.substr(0, kLongestHead), name, arguments);
  return match == Match::kNeedsMore && text.size() >= kLongestHead ? Match::kNo : match;
}

struct WholeCall {
  std::string name, arguments;
};

std::optional<WholeCall> ParseWholeCall(std::string_view text) {
  const auto levels = static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return c == '{' || c == '['; }));
  if (levels > kMostLevels) return std::nullopt;
  const auto call = nlohmann::ordered_json::parse(text, nullptr, false);
  if (!call.is_object() || !call.contains("name") || !call["name"].is_string()) return std::nullopt;
  if (!call.contains("arguments") || !call["arguments"].is_object()) return std::nullopt;
  if (call["name"].get_ref<const std::string&>().empty()) return std::nullopt;
  return WholeCall{call["name"].get<std::string>(), call["arguments"].dump()};
}

}  // namespace

std::vector<ToolCallEvent> ToolCallParser::Push(std::string_view text) {
  held_ += text;
  std::vector<ToolCallEvent> events;
  while (Advance(&events)) {
  }
  return events;
}

std::vector<ToolCallEvent> ToolCallParser::Finish() {
  std::vector<ToolCallEvent> events;
  const std::string rest = std::exchange(held_, {});
  switch (std::exchange(where_, Where::kText)) {
    case Where::kText:
      AddText(rest, &events);
      break;
    case Where::kHead:
    case Where::kWhole:
      AddText(std::string(kOpenTag) + rest, &events);
      break;
    case Where::kArguments:
    case Where::kTail:
      break;  // the call breaks off
  }
  blanks_.clear();
  return events;
}

// One step; false when more text is needed.
bool ToolCallParser::Advance(std::vector<ToolCallEvent>* events) {
  switch (where_) {
    case Where::kText:
      return ReadText(events);
    case Where::kHead:
      return ReadHead(events);
    case Where::kWhole:
      return ReadWholeCall(events);
    case Where::kArguments:
      return ReadArguments(events);
    case Where::kTail:
      return ReadTail(events);
  }
  return false;
}

void ToolCallParser::AddText(std::string_view text, std::vector<ToolCallEvent>* events) {
  if (behind_call_) {
    const size_t begin = std::min(text.find_first_not_of(kBlanks), text.size());
    blanks_ += text.substr(0, begin);
    text.remove_prefix(begin);
  }
  if (text.empty()) return;
  behind_call_ = false;
  events->push_back({ToolCallEvent::kText, 0, std::exchange(blanks_, {}) + std::string(text)});
}

bool ToolCallParser::ReadText(std::vector<ToolCallEvent>* events) {
  const size_t tag = held_.find(kOpenTag);
  const size_t end = tag == held_.npos ? held_.size() - PartialTag(held_, kOpenTag) : tag;
  AddText(std::string_view(held_).substr(0, end), events);
  held_.erase(0, end);
  if (tag == held_.npos) return false;
  held_.erase(0, kOpenTag.size());
  where_ = Where::kHead;
  return true;
}

bool ToolCallParser::ReadHead(std::vector<ToolCallEvent>* events) {
  std::string name;
  size_t arguments = 0;
  const Match match = ReadUsualHead(held_, &name, &arguments);
  if (match == Match::kNeedsMore) return false;
  if (match == Match::kNo) {
    where_ = Where::kWhole;
    scanned_ = 0;
    return true;
  }
  events->push_back({ToolCallEvent::kCallStart, calls_++, std::move(name)});
  held_.erase(0, arguments);
  depth_ = 0;
  in_string_ = escaped_ = false;
  where_ = Where::kArguments;
  return true;
}

bool ToolCallParser::ReadWholeCall(std::vector<ToolCallEvent>* events) {
  const size_t end = held_.find(kCloseTag, scanned_);
  if (end == held_.npos) {
    scanned_ = held_.size() - std::min(held_.size(), kCloseTag.size() - 1);
    return false;
  }
  const std::string_view inside = std::string_view(held_).substr(0, end);
  if (std::optional<WholeCall> call = ParseWholeCall(inside); call.has_value()) {
    blanks_.clear();
    behind_call_ = true;
    const int index = calls_++;
    events->push_back({ToolCallEvent::kCallStart, index, std::move(call->name)});
    events->push_back({ToolCallEvent::kArguments, index, std::move(call->arguments)});
    events->push_back({ToolCallEvent::kCallEnd, index, {}});
  } else {
    AddText(std::string(kOpenTag) + std::string(inside) + std::string(kCloseTag), events);
  }
  held_.erase(0, end + kCloseTag.size());
  where_ = Where::kText;
  return true;
}

bool ToolCallParser::ReadArguments(std::vector<ToolCallEvent>* events) {
  size_t at = 0;
  bool is_complete = false;
  for (; at < held_.size() && !is_complete; ++at) {
    const char c = held_[at];
    if (in_string_) {
      if (escaped_) {
        escaped_ = false;
      } else if (c == '\\') {
        escaped_ = true;
      } else if (c == '"') {
        in_string_ = false;
      }
    } else if (c == '"') {
      in_string_ = true;
    } else if (c == '{' || c == '[') {
      ++depth_;
    } else if (c == '}' || c == ']') {
      is_complete = --depth_ == 0;
    } else if (c == '<') {
      // No JSON has this outside a text: the arguments break off.
      where_ = Where::kTail;
      break;
    }
  }
  if (at > 0) {
    events->push_back({ToolCallEvent::kArguments, calls_ - 1, held_.substr(0, at)});
    held_.erase(0, at);
  }
  if (is_complete) where_ = Where::kTail;
  return where_ == Where::kTail;
}

bool ToolCallParser::ReadTail(std::vector<ToolCallEvent>* events) {
  const size_t tag = held_.find(kCloseTag);
  if (tag == held_.npos) {
    held_.erase(0, held_.size() - PartialTag(held_, kCloseTag));
    return false;
  }
  held_.erase(0, tag + kCloseTag.size());
  events->push_back({ToolCallEvent::kCallEnd, calls_ - 1, {}});
  blanks_.clear();
  behind_call_ = true;
  where_ = Where::kText;
  return true;
}

}  // namespace hga
