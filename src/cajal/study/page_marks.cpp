#include "cajal/study/page_marks.h"

#include <algorithm>

#include "cajal/core/error.h"

namespace cajal::study {
namespace {

constexpr std::string_view kBegin = "<!-- result ", kClose = " -->", kEnd = "<!-- end -->",
                           kMissing = "not in the result";

std::string joined(const std::vector<Cell>& row) {
  std::string out;
  for (const auto& cell : row) out += (out.empty() ? "" : ", ") + text(cell);
  return out;
}

std::string field(const Result& result, std::string_view table_start, std::string_view row_start,
                  std::string_view column) {
  for (const auto& table : result.tables) {
    if (!table.name.starts_with(table_start)) continue;
    const auto at = std::find(table.columns.begin(), table.columns.end(), column);
    if (at == table.columns.end()) continue;
    for (const auto& row : table.rows)
      if (joined(row).starts_with(row_start))
        return text(row.at(static_cast<size_t>(at - table.columns.begin())));
  }
  return std::string(kMissing);
}

std::string claim(const Result& result, std::string_view start) {
  for (const auto& claim : result.claims)
    if (claim.claim.starts_with(start))
      return measured_text(claim) + (claim.passed ? "" : " (failed)");
  return std::string(kMissing);
}

std::string value_of(std::string_view mark, const std::vector<Result>& results,
                     std::string_view where) {
  const auto colon = mark.find(": ");
  require(colon != std::string_view::npos, "{}: mark 'result {}' has no 'SLUG: '", where, mark);
  const auto slug = mark.substr(0, colon), what = mark.substr(colon + 2);
  const auto result =
      std::find_if(results.begin(), results.end(), [&](const Result& r) { return r.slug == slug; });
  if (result == results.end()) return "not measured yet";
  const auto first = what.find(" / ");
  if (first == std::string_view::npos) return claim(*result, what);
  const auto second = what.find(" / ", first + 3);
  require(second != std::string_view::npos, "{}: mark 'result {}' is not TABLE / ROW / COLUMN",
          where, mark);
  return field(*result, what.substr(0, first), what.substr(first + 3, second - first - 3),
               what.substr(second + 3));
}

}  // namespace

std::string fill_marks(std::string_view page, const std::vector<Result>& results,
                       std::string_view where) {
  std::string out;
  while (true) {
    const auto begin = page.find(kBegin);
    out += page.substr(0, begin);
    if (begin == std::string_view::npos) return out;
    page.remove_prefix(begin);
    const auto close = page.find(kClose), end = page.find(kEnd);
    require(close != std::string_view::npos && end != std::string_view::npos && close < end,
            "{}: '{}' does not end in {}", where, page.substr(0, std::min<size_t>(60, page.size())),
            kEnd);
    const auto mark = page.substr(kBegin.size(), close - kBegin.size());
    out += page.substr(0, close + kClose.size());
    out += value_of(mark, results, where);
    out += kEnd;
    page.remove_prefix(end + kEnd.size());
  }
}

}  // namespace cajal::study
