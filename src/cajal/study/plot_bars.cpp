#include <algorithm>
#include <cmath>

#include "cajal/core/error.h"
#include "cajal/study/canvas.h"
#include "cajal/study/plot.h"

namespace cajal::plot {
namespace {}  // namespace

std::string draw(const BarChart& chart) {
  std::vector<double> values;
  std::vector<std::string> names;
  for (const auto& bars : chart.bars) {
    require(bars.values.size() == chart.groups.size() &&
                (bars.spread.empty() || bars.spread.size() == bars.values.size()),
            "plot '{}': bars '{}' have {} values and {} spreads, expected {}", chart.title,
            bars.name, bars.values.size(), bars.spread.size(), chart.groups.size());
    for (size_t i = 0; i < bars.values.size(); ++i) {
      const double spread = bars.spread.empty() ? 0 : bars.spread[i];
      values.push_back(bars.values[i] + spread), values.push_back(bars.values[i] - spread);
    }
    names.push_back(bars.name);
  }
  const auto y = range_of(chart.y, values, true);
  Canvas canvas;
  legend(canvas, names);
  const bool slanted = must_slant(canvas, chart.groups);
  make_room(canvas, chart.groups, slanted);
  y_axis(canvas, y, chart.y);
  slot_names(canvas, chart.groups, slanted);
  const auto count = static_cast<double>(std::max<size_t>(chart.bars.size(), 1));
  const double slot =
      (canvas.right - canvas.left) / static_cast<double>(std::max<size_t>(chart.groups.size(), 1));
  const double width = slot * 0.76 / count;
  const bool labelled = width >= 26;
  const double base = canvas.y(y, y.logarithmic ? y.low : std::clamp(0.0, y.low, y.high));
  for (size_t b = 0; b < chart.bars.size(); ++b) {
    for (size_t g = 0; g < chart.groups.size(); ++g) {
      const double value = chart.bars[b].values[g];
      if (!y.shows(value)) continue;
      const double left =
          canvas.left + slot * (static_cast<double>(g) + 0.12) + width * static_cast<double>(b);
      const double end = std::clamp(canvas.y(y, value), canvas.top, canvas.bottom);
      canvas.put("<rect x='{:.1f}' y='{:.1f}' width='{:.1f}' height='{:.1f}' fill='{}'/>\n",
                 left + 1, std::min(end, base), std::max(width - 2, 0.5), std::abs(base - end),
                 colour_of(b));
      double above = std::min(end, base);
      if (!chart.bars[b].spread.empty() && std::isfinite(chart.bars[b].spread[g])) {
        const double spread = chart.bars[b].spread[g];
        const double high = canvas.y(y, value + spread);
        const double low = y.shows(value - spread) ? canvas.y(y, value - spread) : canvas.bottom;
        canvas.put(
            "<path d='M{0:.1f} {1:.1f}V{2:.1f}M{3:.1f} {1:.1f}h8M{3:.1f} {2:.1f}h8' "
            "stroke='#808080' stroke-width='1.5'/>\n",
            left + width / 2, high, low, left + width / 2 - 4);
        above = std::min(above, high);
      }
      if (labelled)
        canvas.text(left + width / 2, above - 4, tick_text(std::stod(fmt::format("{:.3g}", value))),
                    "middle", "font-size='11'");
    }
  }
  canvas.line(canvas.left, base, canvas.right, base, "stroke='#808080'");
  return document(chart.title, canvas);
}

}  // namespace cajal::plot
