// SPDX-License-Identifier: Apache-2.0
// The three ways a table is printed.
#include "table.h"

#include <algorithm>
#include <utility>

namespace hga::cli {
namespace {

// Characters of UTF-8 text, which is near enough to its width for what tables here hold.
size_t Characters(const std::string& text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

std::string Pad(const std::string& text, size_t width, Table::Align align) {
  const size_t length = Characters(text);
  const std::string blanks(width > length ? width - length : 0, ' ');
  return align == Table::Align::kLeft ? text + blanks : blanks + text;
}

std::string Quote(const std::string& cell) {
  if (cell.find_first_of(",\"\r\n") == std::string::npos) return cell;
  std::string quoted = "\"";
  for (char c : cell) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + "\"";
}

}  // namespace

void Table::AddColumn(std::string title, Align align) {
  titles_.push_back(std::move(title));
  aligns_.push_back(align);
}

void Table::AddRow(std::vector<std::string> cells) {
  cells.resize(titles_.size());
  rows_.push_back(std::move(cells));
}

std::vector<size_t> Table::Widths() const {
  std::vector<size_t> widths;
  for (size_t i = 0; i < titles_.size(); ++i) {
    size_t width = Characters(titles_[i]);
    for (const auto& row : rows_) width = std::max(width, Characters(row[i]));
    widths.push_back(width);
  }
  return widths;
}

std::string Table::Text() const {
  const std::vector<size_t> widths = Widths();
  std::string out;
  const auto add = [&](const std::vector<std::string>& cells) {
    std::string line;
    for (size_t i = 0; i < cells.size(); ++i) {
      line += (i > 0 ? "  " : "") + Pad(cells[i], widths[i], aligns_[i]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  };
  add(titles_);
  for (const auto& row : rows_) add(row);
  return out;
}

std::string Table::Markdown() const {
  const std::vector<size_t> widths = Widths();
  std::string out;
  const auto add = [&](const std::vector<std::string>& cells) {
    for (size_t i = 0; i < cells.size(); ++i) {
      out += (i > 0 ? " | " : "| ") + Pad(cells[i], widths[i], aligns_[i]);
    }
    out += " |\n";
  };
  add(titles_);
  for (size_t i = 0; i < titles_.size(); ++i) {
    const bool right = aligns_[i] == Align::kRight;
    out += (i > 0 ? " | " : "| ") + std::string(std::max<size_t>(widths[i], 4) - 1, '-') +
           (right ? ":" : "-");
  }
  out += " |\n";
  for (const auto& row : rows_) add(row);
  return out;
}

std::string Table::Csv() const {
  std::string out;
  const auto add = [&](const std::vector<std::string>& cells) {
    for (size_t i = 0; i < cells.size(); ++i) out += (i > 0 ? "," : "") + Quote(cells[i]);
    out += "\r\n";
  };
  add(titles_);
  for (const auto& row : rows_) add(row);
  return out;
}

}  // namespace hga::cli
