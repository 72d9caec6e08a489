#include "cajal/study/curves.h"

#include "cajal/data/catalogue.h"
#include "cajal/data/csv.h"

namespace cajal::study {

CurveSet curves(const data::Curves& c) {
  return {torch::tensor(c.values).reshape({c.count(), c.points, c.channels}),
          torch::tensor(c.labels)};
}

CurveSet measured_curves(const std::string& file, int64_t labels) {
  const auto table = data::read_csv(data::find_file("fda-curves", {file}));
  std::vector<float> values;
  std::vector<std::vector<double>> columns;
  for (int64_t c = 0; c < table.columns(); ++c) columns.push_back(table.numbers(c));
  for (int64_t r = 0; r < table.rows(); ++r)
    for (const auto& column : columns) values.push_back(static_cast<float>(column[r]));
  const auto all = torch::tensor(values).reshape({table.rows(), table.columns()});
  const auto y = all.slice(1, table.columns() - labels);
  return {all.slice(1, 0, table.columns() - labels).unsqueeze(2), labels == 1 ? y : y.argmax(1)};
}

}  // namespace cajal::study
