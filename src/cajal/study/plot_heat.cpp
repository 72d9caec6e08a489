#include <algorithm>
#include <cmath>

#include "cajal/core/error.h"
#include "cajal/study/canvas.h"
#include "cajal/study/plot.h"

namespace cajal::plot {
namespace {

struct Colour {
  double r, g, b;
};

Colour blend(const std::vector<Colour>& stops, double share) {
  const double at = std::clamp(share, 0.0, 1.0) * static_cast<double>(stops.size() - 1);
  const auto i = std::min(static_cast<size_t>(at), stops.size() - 2);
  const double t = at - static_cast<double>(i);
  const auto mix = [t](double a, double b) { return a + (b - a) * t; };
  return {mix(stops[i].r, stops[i + 1].r), mix(stops[i].g, stops[i + 1].g),
          mix(stops[i].b, stops[i + 1].b)};
}

/// viridis, or blue - white - vermilion around zero for values of both signs.
Colour heat(double share, bool both_signs) {
  static const std::vector<Colour> kViridis = {
      {68, 1, 84},    {72, 40, 120},  {62, 73, 137},  {49, 104, 142}, {38, 130, 142},
      {31, 158, 137}, {53, 183, 121}, {110, 206, 88}, {181, 222, 43}, {253, 231, 37}};
  static const std::vector<Colour> kSigned = {{0, 90, 160}, {247, 247, 247}, {200, 80, 0}};
  return blend(both_signs ? kSigned : kViridis, share);
}

std::string hex(const Colour& c) {
  return fmt::format("#{:02x}{:02x}{:02x}", static_cast<int>(c.r), static_cast<int>(c.g),
                     static_cast<int>(c.b));
}

/// Means over blocks, so that no side has more than 240 cells.
std::vector<std::vector<double>> at_most_240(const std::vector<std::vector<double>>& values) {
  constexpr size_t kMost = 240;
  const size_t rows = values.size(), columns = rows ? values[0].size() : 0;
  const size_t tall = (rows + kMost - 1) / kMost, wide = (columns + kMost - 1) / kMost;
  if (tall <= 1 && wide <= 1) return values;
  std::vector<std::vector<double>> out;
  for (size_t row = 0; row < rows; row += tall) {
    auto& line = out.emplace_back();
    for (size_t column = 0; column < columns; column += wide) {
      double sum = 0, count = 0;
      for (size_t i = row; i < std::min(rows, row + tall); ++i)
        for (size_t j = column; j < std::min(columns, column + wide); ++j)
          if (std::isfinite(values[i][j])) sum += values[i][j], ++count;
      line.push_back(count ? sum / count : NAN);
    }
  }
  return out;
}

void colour_bar(Canvas& canvas, const Range& range, bool both_signs, const std::string& unit) {
  const double x = canvas.right + 18;
  constexpr int kSteps = 64;
  const double step = canvas.height() / kSteps;
  for (int i = 0; i < kSteps; ++i)
    canvas.put("<rect x='{:.1f}' y='{:.1f}' width='14' height='{:.1f}' fill='{}'/>", x,
               canvas.bottom - step * (i + 1), step + 0.5,
               hex(heat((i + 0.5) / kSteps, both_signs)));
  canvas.put("\n");
  for (const auto& tick : ticks(range, 6))
    canvas.text(x + 19, canvas.y(range, tick.value) + 4, tick.text, "start");
  canvas.text(x + 20, canvas.top - 8, unit, "middle");
}

void require_rectangle(const HeatMap& chart) {
  const size_t rows = chart.values.size(), columns = rows ? chart.values[0].size() : 0;
  for (const auto& row : chart.values)
    require(row.size() == columns, "plot '{}': a row of {} cells, the first has {}", chart.title,
            row.size(), columns);
  require((chart.columns.empty() || chart.columns.size() == columns) &&
              (chart.rows.empty() || chart.rows.size() == rows),
          "plot '{}': {} row and {} column names for {} x {} cells", chart.title, chart.rows.size(),
          chart.columns.size(), rows, columns);
}

/// The range of the colours: around zero when there are values of both signs.
Range heat_range(const std::vector<std::vector<double>>& values, bool& both_signs) {
  std::vector<double> flat;
  for (const auto& row : values) flat.insert(flat.end(), row.begin(), row.end());
  const auto negative = [](double value) { return std::isfinite(value) && value < 0; };
  const auto positive = [](double value) { return std::isfinite(value) && value > 0; };
  both_signs = std::any_of(flat.begin(), flat.end(), negative) &&
               std::any_of(flat.begin(), flat.end(), positive);
  auto range = range_of({}, flat);
  if (both_signs) range.high = std::max(-range.low, range.high), range.low = -range.high;
  return range;
}

void cells(Canvas& canvas, const std::vector<std::vector<double>>& values, const Range& range,
           bool both_signs) {
  if (values.empty() || values[0].empty()) return;
  const double wide = canvas.width() / static_cast<double>(values[0].size());
  const double tall = canvas.height() / static_cast<double>(values.size());
  const bool labelled = wide >= 34 && tall >= 16;
  for (size_t i = 0; i < values.size(); ++i) {
    const double y = canvas.top + tall * static_cast<double>(i);
    for (size_t j = 0; j < values[i].size(); ++j) {
      const double x = canvas.left + wide * static_cast<double>(j), value = values[i][j];
      if (!std::isfinite(value)) continue;
      const auto colour = heat(range.position(value), both_signs);
      // Cells overlap by a hair, or the ground would shine through between them.
      canvas.put("<rect x='{:.1f}' y='{:.1f}' width='{:.2f}' height='{:.2f}' fill='{}'/>", x, y,
                 wide + 0.3, tall + 0.3, hex(colour));
      if (!labelled) continue;
      const bool bright = 0.299 * colour.r + 0.587 * colour.g + 0.114 * colour.b > 140;
      canvas.text(x + wide / 2, y + tall / 2 + 4, fmt::format("{:.3g}", value), "middle",
                  fmt::format("style='fill:{}' font-size='11'", bright ? "#111" : "#fff"));
    }
    canvas.put("\n");
  }
}

void row_names(Canvas& canvas, const std::vector<std::string>& names) {
  const double tall = canvas.height() / static_cast<double>(std::max<size_t>(names.size(), 1));
  const auto stride = static_cast<size_t>(std::max(1.0, std::ceil(13 / tall)));
  for (size_t i = 0; i < names.size(); i += stride)
    canvas.text(canvas.left - 6, canvas.top + tall * (static_cast<double>(i) + 0.5) + 4, names[i],
                "end");
}

std::vector<std::string> numbers_up_to(size_t count) {
  std::vector<std::string> out;
  for (size_t i = 0; i < count; ++i) out.push_back(std::to_string(i));
  return out;
}

}  // namespace

std::string draw(const HeatMap& chart) {
  require_rectangle(chart);
  const auto values = at_most_240(chart.values);
  bool both_signs = false;
  const auto range = heat_range(values, both_signs);
  const bool named = !chart.columns.empty();
  const auto columns =
      named ? chart.columns : numbers_up_to(chart.values.empty() ? 0 : chart.values[0].size());
  const auto rows = chart.rows.empty() ? numbers_up_to(chart.values.size()) : chart.rows;
  Canvas canvas;
  canvas.right = kWidth - 84, canvas.top = 48;
  double widest = 0;
  for (const auto& name : rows) widest = std::max(widest, text_width(name));
  canvas.left = std::min(widest, 220.0) + (chart.y.empty() ? 14 : 38);
  const bool slanted = named && must_slant(canvas, columns);
  make_room(canvas, columns, slanted);
  cells(canvas, values, range, both_signs);
  row_names(canvas, rows);
  slot_names(canvas, columns, slanted);
  frame(canvas);
  colour_bar(canvas, range, both_signs, chart.unit);
  canvas.text((canvas.left + canvas.right) / 2, kHeight - 10, chart.x);
  y_label(canvas, chart.y);
  return document(chart.title, canvas);
}

}  // namespace cajal::plot
