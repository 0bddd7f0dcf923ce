// SPDX-License-Identifier: Apache-2.0
// Blank lines around calls belong to the calls; what is no call is shown as it is.
#include "apps/server/tool_stream.h"

#include <algorithm>
#include <utility>

#include "apps/server/json.h"

namespace hga::server {
namespace {

constexpr std::string_view kOpen = "<tool_call>";
constexpr std::string_view kClose = "</tool_call>";

// Bytes at the end of `text` that could be the beginning of `mark`.
size_t Overlap(std::string_view text, std::string_view mark) {
  size_t length = std::min(text.size(), mark.size() - 1);
  while (length > 0 && !text.ends_with(mark.substr(0, length))) --length;
  return length;
}

}  // namespace

ToolStream::Piece ToolStream::Push(std::string_view text) {
  Piece piece;
  held_ += text;
  for (;;) {
    const std::string_view mark = inside_ ? kClose : kOpen;
    const size_t at = held_.find(mark);
    if (at == std::string::npos) break;
    if (inside_) {
      Call(std::string_view(held_).substr(0, at), &piece);
    } else {
      std::string before = held_.substr(0, at);
      const size_t last = before.find_last_not_of(" \n");
      before.erase(last == std::string::npos ? 0 : last + 1);
      piece.text += before;
    }
    held_.erase(0, at + mark.size());
    inside_ = !inside_;
  }
  if (inside_) return piece;
  size_t keep = Overlap(held_, kOpen);
  // Blanks may turn out to stand before a call.
  const size_t last = held_.find_last_not_of(" \n", held_.size() - keep - 1);
  if (held_.size() > keep) keep = held_.size() - (last == std::string::npos ? 0 : last + 1);
  piece.text += held_.substr(0, held_.size() - keep);
  held_.erase(0, held_.size() - keep);
  return piece;
}

ToolStream::Piece ToolStream::Finish() {
  Piece piece;
  if (inside_) piece.text = kOpen;
  piece.text += std::exchange(held_, "");
  if (calls_ > 0 && piece.text.find_first_not_of(" \n") == std::string::npos) piece.text.clear();
  inside_ = false;
  return piece;
}

void ToolStream::Call(std::string_view body, Piece* piece) {
  const auto parsed = ParseJson(body, kLimits);
  const bool good = parsed.ok() && parsed->is_object() && parsed->contains("name") &&
                    (*parsed)["name"].is_string();
  if (!good) {
    piece->text += kOpen;
    piece->text += body;
    piece->text += kClose;
    return;
  }
  const Json arguments = parsed->value("arguments", Json::object());
  piece->calls.push_back({calls_++, true, (*parsed)["name"].get<std::string>(), Dump(arguments)});
}

}  // namespace hga::server
