#include <algorithm>
#include <cmath>

#include "cajal/core/error.h"
#include "cajal/study/canvas.h"
#include "cajal/study/plot.h"

namespace cajal::plot {
namespace {

/// Where a chart's bars stand.
struct Slots {
  double left, slot, width;  // px: of the first group, of a group, of a bar

  double bar(size_t group, size_t bars_before) const {
    return left + slot * (static_cast<double>(group) + 0.12) +
           width * static_cast<double>(bars_before);
  }
};

void whisker(Canvas& canvas, double middle, double high, double low) {
  canvas.put(
      "<path d='M{0:.1f} {1:.1f}V{2:.1f}M{3:.1f} {1:.1f}h8M{3:.1f} {2:.1f}h8' stroke='#808080' "
      "stroke-width='1.5'/>\n",
      middle, high, low, middle - 4);
}

void draw_bar(Canvas& canvas, const Bars& bars, size_t group, const char* colour, double left,
              double width, const Range& y) {
  const double value = bars.values[group];
  if (!y.shows(value)) return;
  const auto at = [&](double v) {
    return y.shows(v) ? std::clamp(canvas.y(y, v), canvas.top, canvas.bottom) : canvas.bottom;
  };
  const double base = at(y.logarithmic ? y.low : std::clamp(0.0, y.low, y.high)), end = at(value);
  canvas.put("<rect x='{:.1f}' y='{:.1f}' width='{:.1f}' height='{:.1f}' fill='{}'/>\n", left + 1,
             std::min(end, base), std::max(width - 2, 0.5), std::abs(base - end), colour);
  const double spread = bars.spread.empty() ? 0 : bars.spread[group];
  const bool spreads = std::isfinite(spread) && spread > 0;
  if (spreads) whisker(canvas, left + width / 2, at(value + spread), at(value - spread));
  if (width < 26) return;
  const double label =
      end > base ? at(value - (spreads ? spread : 0)) + 12 : at(value + (spreads ? spread : 0)) - 4;
  canvas.text(left + width / 2, label, tick_text(std::stod(fmt::format("{:.3g}", value))), "middle",
              "font-size='11'");
}

/// All values and the ends of their whiskers; throws Error for bars that do not fit the groups.
std::vector<double> values_of(const BarChart& chart) {
  std::vector<double> values;
  for (const auto& bars : chart.bars) {
    require(bars.values.size() == chart.groups.size() &&
                (bars.spread.empty() || bars.spread.size() == bars.values.size()),
            "plot '{}': bars '{}' have {} values and {} spreads, expected {}", chart.title,
            bars.name, bars.values.size(), bars.spread.size(), chart.groups.size());
    for (size_t i = 0; i < bars.values.size(); ++i) {
      const double spread = bars.spread.empty() ? 0 : bars.spread[i];
      values.push_back(bars.values[i] + spread), values.push_back(bars.values[i] - spread);
    }
  }
  return values;
}

}  // namespace

std::string draw(const BarChart& chart) {
  const auto y = range_of(chart.y, values_of(chart), true);
  std::vector<std::string> names;
  for (const auto& bars : chart.bars) names.push_back(bars.name);
  Canvas canvas;
  legend(canvas, names);
  canvas.top += 8;  // for the figure above the highest bar
  const bool slanted = must_slant(canvas, chart.groups);
  make_room(canvas, chart.groups, slanted);
  y_axis(canvas, y, chart.y);
  slot_names(canvas, chart.groups, slanted);
  const double slot = slot_width(canvas, chart.groups.size());
  const Slots slots{canvas.left, slot,
                    slot * 0.76 / static_cast<double>(std::max<size_t>(chart.bars.size(), 1))};
  for (size_t b = 0; b < chart.bars.size(); ++b)
    for (size_t g = 0; g < chart.groups.size(); ++g)
      draw_bar(canvas, chart.bars[b], g, colour_of(b), slots.bar(g, b), slots.width, y);
  const double base = canvas.y(y, y.logarithmic ? y.low : std::clamp(0.0, y.low, y.high));
  canvas.line(canvas.left, base, canvas.right, base, "stroke='#808080'");
  return document(chart.title, canvas);
}

}  // namespace cajal::plot
