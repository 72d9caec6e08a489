#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace cajal::data {

struct CsvFormat {
  char separator = ',';
  bool header = true;  // the first row names the columns
};

/// A table of text cells, every row as long as the first.
class CsvTable {
 public:
  int64_t rows() const { return static_cast<int64_t>(lines_.size()); }
  int64_t columns() const { return columns_; }
  const std::vector<std::string>& header() const { return header_; }
  const std::string& cell(int64_t row, int64_t column) const {
    return cells_[static_cast<size_t>(row * columns_ + column)];
  }

  /// Place of the column of that name; throws Error that names the nearest one there is.
  int64_t column_of(std::string_view name) const;

  /// A column as numbers [rows]; throws Error naming file, line, column and text of the first cell
  /// that is not a finite number.
  std::vector<double> numbers(int64_t column) const;
  std::vector<double> numbers(std::string_view name) const { return numbers(column_of(name)); }

 private:
  friend struct CsvParser;
  std::string where_;
  int64_t columns_ = 0;
  std::vector<std::string> header_, cells_;
  std::vector<int64_t> lines_;  // line on which each row begins, from 1
};

/// Reads comma-separated values (plain, .gz or .xz) as RFC 4180 has them: "quoted ""cells""" may
/// hold separators and line ends; lines end in LF or CRLF; a byte-order mark is passed over.
/// Throws Error with the line number on rows of another length or misplaced quotes.
CsvTable read_csv(const std::filesystem::path& path, const CsvFormat& format = {});
CsvTable parse_csv(std::string_view text, std::string_view where, const CsvFormat& format = {});

}  // namespace cajal::data
