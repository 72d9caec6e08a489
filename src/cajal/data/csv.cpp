#include "cajal/data/csv.h"

#include <charconv>
#include <cmath>

#include "cajal/core/error.h"
#include "cajal/core/gzip.h"
#include "cajal/core/registry.h"

namespace cajal::data {
namespace {

// A cell takes some 30 bytes more than its text, so a file of separators would take far more memory
// than its size.
constexpr size_t kMaxTable = size_t{512} << 20;
constexpr size_t kMaxCells = size_t{1} << 26;

}  // namespace

struct CsvParser {
  std::string_view text, where;
  CsvFormat format;
  size_t at = 0;
  int64_t line = 1;

  bool done() const { return at == text.size(); }

  // At the end of a row: the end of the text, LF or CRLF.
  bool end_of_row() const { return done() || text[at] == '\n' || text.substr(at, 2) == "\r\n"; }

  std::string quoted() {
    const int64_t begin = line;
    std::string out;
    for (++at;; ++at) {
      require(!done(), "{}: line {}: a quoted cell does not end", where, begin);
      if (text[at] == '\n') ++line;
      if (text[at] == '"') {
        if (text.substr(at, 2) != "\"\"") break;
        ++at;
      }
      out += text[at];
    }
    ++at;
    require(end_of_row() || text[at] == format.separator, "{}: line {}: text behind a quoted cell",
            where, line);
    return out;
  }

  std::string plain() {
    const size_t begin = at;
    while (!end_of_row() && text[at] != format.separator) {
      require(text[at] != '"', "{}: line {}: a quote inside a cell that is not quoted", where,
              line);
      ++at;
    }
    return std::string(text.substr(begin, at - begin));
  }

  // Appends one row's cells and returns how many they were.
  int64_t row(std::vector<std::string>& cells) {
    for (int64_t count = 1;; ++count) {
      require(cells.size() < kMaxCells, "{}: line {}: more than {} cells", where, line, kMaxCells);
      cells.push_back(!done() && text[at] == '"' ? quoted() : plain());
      if (end_of_row()) {
        if (!done()) at += text[at] == '\r' ? 2 : 1;
        ++line;
        return count;
      }
      ++at;  // the separator
    }
  }

  CsvTable run() {
    if (text.starts_with("\xEF\xBB\xBF")) at = 3;
    require(!done(), "{}: empty", where);
    CsvTable out;
    out.where_ = where;
    if (format.header) out.columns_ = row(out.header_);
    while (!done()) {
      const int64_t begin = line;
      const int64_t count = row(out.cells_);
      if (out.columns_ == 0) out.columns_ = count;
      require(count == out.columns_, "{}: line {}: {} cells, expected {}", where, begin, count,
              out.columns_);
      out.lines_.push_back(begin);
    }
    return out;
  }
};

int64_t CsvTable::column_of(std::string_view name) const {
  for (size_t i = 0; i < header_.size(); ++i)
    if (header_[i] == name) return static_cast<int64_t>(i);
  fail("{}: no column is called '{}'{}", where_, name,
       did_you_mean(name, {header_.begin(), header_.end()}));
}

std::vector<double> CsvTable::numbers(int64_t column) const {
  require(column >= 0 && column < columns_, "{}: no column {}, there are {}", where_, column,
          columns_);
  const auto name = header_.empty() ? std::to_string(column) : header_[static_cast<size_t>(column)];
  std::vector<double> out(static_cast<size_t>(rows()));
  for (int64_t row = 0; row < rows(); ++row) {
    const auto& text = cell(row, column);
    auto& value = out[static_cast<size_t>(row)];
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    require(error == std::errc() && end == text.data() + text.size() && std::isfinite(value),
            "{}: line {}: '{}' in column {} is not a finite number", where_,
            lines_[static_cast<size_t>(row)], text.substr(0, 40), name);
  }
  return out;
}

CsvTable parse_csv(std::string_view text, std::string_view where, const CsvFormat& format) {
  return CsvParser{text, where, format}.run();
}

CsvTable read_csv(const std::filesystem::path& path, const CsvFormat& format) {
  return parse_csv(read_compressed(path, kMaxTable), path.string(), format);
}

}  // namespace cajal::data
