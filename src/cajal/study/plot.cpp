#include "cajal/study/plot.h"

#include "cajal/study/canvas.h"

namespace cajal::plot {

namespace {

/// A field that holds a comma, quote or line break is quoted (RFC 4180).
std::string field(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + '"';
}

std::string rows_of(const Lines& chart) {
  std::string out =
      fmt::format("series,{},{},spread\n", field(chart.x.label.empty() ? "x" : chart.x.label),
                  field(chart.y.label.empty() ? "y" : chart.y.label));
  for (const auto& series : chart.series)
    for (size_t i = 0; i < series.x.size(); ++i)
      out += fmt::format("{},{},{},{}\n", field(series.name), series.x[i], series.y[i],
                         series.spread.empty() ? "" : fmt::format("{}", series.spread[i]));
  return out;
}

std::string rows_of(const BarChart& chart) {
  std::string out =
      fmt::format("group,bar,{},spread\n", field(chart.y.label.empty() ? "value" : chart.y.label));
  for (size_t g = 0; g < chart.groups.size(); ++g)
    for (const auto& bars : chart.bars)
      out += fmt::format("{},{},{},{}\n", field(chart.groups[g]), field(bars.name), bars.values[g],
                         bars.spread.empty() ? "" : fmt::format("{}", bars.spread[g]));
  return out;
}

std::string rows_of(const HeatMap& chart) {
  std::string out = field(chart.y.empty() ? "row" : chart.y);
  const size_t columns = chart.values.empty() ? 0 : chart.values[0].size();
  for (size_t j = 0; j < columns; ++j)
    out += ',' + (chart.columns.empty() ? fmt::format("{}", j) : field(chart.columns[j]));
  out += '\n';
  for (size_t i = 0; i < chart.values.size(); ++i) {
    out += chart.rows.empty() ? fmt::format("{}", i) : field(chart.rows[i]);
    for (const double value : chart.values[i]) out += fmt::format(",{}", value);
    out += '\n';
  }
  return out;
}

// Its picture says it all, in a hundredth of the bytes.
std::string rows_of(const Pictures&) { return {}; }

}  // namespace

const std::string& title(const Chart& chart) {
  return std::visit([](const auto& c) -> const std::string& { return c.title; }, chart);
}

std::string svg(const Chart& chart) {
  return std::visit([](const auto& c) { return draw(c); }, chart);
}

std::string csv(const Chart& chart) {
  return std::visit([](const auto& c) { return rows_of(c); }, chart);
}

}  // namespace cajal::plot
