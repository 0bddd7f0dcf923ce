// SPDX-License-Identifier: Apache-2.0
// Tables of strings, printed aligned, as Markdown or as CSV.
#ifndef HGA_APPS_CLI_TABLE_H_
#define HGA_APPS_CLI_TABLE_H_

#include <string>
#include <vector>

namespace hga::cli {

class Table {
 public:
  enum class Align { kLeft, kRight };

  void AddColumn(std::string title, Align align = Align::kRight);
  void AddRow(std::vector<std::string> cells);  // missing cells are empty, surplus ones dropped

  std::string Text() const;  // two spaces between columns
  std::string Markdown() const;
  std::string Csv() const;  // RFC 4180 quoting

 private:
  std::vector<size_t> Widths() const;

  std::vector<std::string> titles_;
  std::vector<Align> aligns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace hga::cli

#endif  // HGA_APPS_CLI_TABLE_H_
