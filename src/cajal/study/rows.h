#pragma once
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "cajal/study/study.h"

namespace cajal::study {

/// A line of a table as one seed measures it: its name and figures.
using Row = std::pair<std::string, std::vector<double>>;

/// A table of which every seed measures the same lines.
class Rows {
 public:
  /// A part a seed. Throws Error naming the part when seeds give other lines than the first one.
  Rows(Lab& lab, const std::string& part,
       const std::function<std::vector<Row>(uint64_t seed)>& run);

  /// What the seeds measured there. Throws Error for a name that no line has.
  const Figure& at(const std::string& name, size_t column = 0) const;
  /// A table of all lines that have so many figures as there are `columns` after the first, which
  /// is that of the names.
  void write(Lab& lab, const std::string& title, const std::vector<std::string>& columns) const;

 private:
  struct Line {
    std::string name;
    std::vector<Figure> columns;
  };
  std::string part_;
  std::vector<Line> lines_;
};

}  // namespace cajal::study
