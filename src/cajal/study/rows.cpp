#include "cajal/study/rows.h"

#include "cajal/core/error.h"

namespace cajal::study {
namespace {

/// As it is kept: a Figure, because its numbers may be infinite or none.
struct KeptRow {
  std::string name = {};
  Figure values = {};
};
CAJAL_OPTIONS(KeptRow, name, values)

}  // namespace

Rows::Rows(Lab& lab, const std::string& part,
           const std::function<std::vector<Row>(uint64_t seed)>& run)
    : part_(part) {
  for (const uint64_t seed : lab.seeds()) {
    const auto rows = lab.part(part, seed, [&] {
      std::vector<KeptRow> kept;
      for (const auto& [name, values] : run(seed)) kept.push_back({name, values});
      return kept;
    });
    if (lines_.empty())
      for (const auto& row : rows)
        lines_.push_back({row.name, std::vector<Figure>(row.values.values.size())});
    require(rows.size() == lines_.size(), "{}: seed {} gave {} lines, the first one {}", part, seed,
            rows.size(), lines_.size());
    for (size_t r = 0; r < rows.size(); ++r) {
      auto& line = lines_[r];
      const auto& values = rows[r].values.values;
      require(rows[r].name == line.name && values.size() == line.columns.size(),
              "{}: line {} of seed {} is '{}' with {} numbers, that of the first one '{}' with {}",
              part, r, seed, rows[r].name, values.size(), line.name, line.columns.size());
      for (size_t c = 0; c < values.size(); ++c) line.columns[c].values.push_back(values[c]);
    }
  }
}

const Figure& Rows::at(const std::string& name, size_t column) const {
  for (const auto& line : lines_)
    if (line.name == name) {
      require(column < line.columns.size(), "{}: line '{}' has no column {}", part_, name, column);
      return line.columns[column];
    }
  fail("{}: no line '{}'", part_, name);
}

void Rows::write(Lab& lab, const std::string& title,
                 const std::vector<std::string>& columns) const {
  auto table = lab.table(title, columns);
  for (const auto& line : lines_) {
    if (line.columns.size() + 1 != columns.size()) continue;
    std::vector<Cell> cells{line.name};
    cells.insert(cells.end(), line.columns.begin(), line.columns.end());
    table.add(std::move(cells));
  }
}

}  // namespace cajal::study
