#include <algorithm>
#include <cmath>

#include "cajal/core/error.h"
#include "cajal/study/canvas.h"
#include "cajal/study/plot.h"

namespace cajal::plot {
namespace {

/// Indices of the points to draw: all, or the lowest and highest of each of many short stretches.
std::vector<size_t> points_to_draw(const std::vector<double>& y) {
  constexpr size_t kMost = 3000;
  std::vector<size_t> out;
  const size_t stretch = y.size() <= kMost ? 1 : (2 * y.size() + kMost - 1) / kMost;
  for (size_t begin = 0; begin < y.size(); begin += stretch) {
    const size_t end = std::min(y.size(), begin + stretch);
    size_t low = begin, high = begin;
    for (size_t i = begin; i < end; ++i) {
      if (!(y[i] >= y[low])) low = i;
      if (y[i] > y[high]) high = i;
    }
    out.push_back(std::min(low, high));
    if (low != high) out.push_back(std::max(low, high));
  }
  return out;
}

void marker(Canvas& canvas, size_t kind, double x, double y, const char* colour) {
  switch (kind % 4) {
    case 0:
      canvas.put("<circle cx='{:.1f}' cy='{:.1f}' r='3.4' fill='{}'/>", x, y, colour);
      break;
    case 1:
      canvas.put("<rect x='{:.1f}' y='{:.1f}' width='6' height='6' fill='{}'/>", x - 3, y - 3,
                 colour);
      break;
    case 2:
      canvas.put("<path d='M{:.1f} {:.1f}l4 7h-8z' fill='{}'/>", x, y - 4.5, colour);
      break;
    default:
      canvas.put("<path d='M{:.1f} {:.1f}l4 4-4 4-4-4z' fill='{}'/>", x, y - 4, colour);
  }
}

void draw_series(Canvas& canvas, const Series& series, size_t index, const Range& x,
                 const Range& y) {
  const char* colour = colour_of(index);
  const auto drawn = points_to_draw(series.y);
  const auto shown = [&](size_t i) { return x.shows(series.x[i]) && y.shows(series.y[i]); };
  if (!series.spread.empty()) {  // a band, up one side and down the other
    std::string band;
    const auto corner = [&](size_t i, double sign) {
      const double edge = series.y[i] + sign * series.spread[i];
      if (!shown(i) || !std::isfinite(edge)) return;
      band += fmt::format("{:.1f},{:.1f} ", canvas.x(x, series.x[i]),
                          canvas.y(y, y.shows(edge) ? edge : y.low));
    };
    for (const size_t i : drawn) corner(i, 1);
    for (auto it = drawn.rbegin(); it != drawn.rend(); ++it) corner(*it, -1);
    canvas.put("<polygon points='{}' fill='{}' fill-opacity='.18'/>\n", band, colour);
  }
  if (!series.points_only) {
    std::string path;
    bool pen_down = false;
    for (const size_t i : drawn) {
      if (shown(i))
        path += fmt::format("{}{:.1f} {:.1f}", pen_down ? "L" : "M", canvas.x(x, series.x[i]),
                            canvas.y(y, series.y[i]));
      pen_down = shown(i);
    }
    canvas.put(
        "<path d='{}' fill='none' stroke='{}' stroke-width='2' stroke-linejoin='round'{}/>\n", path,
        colour, repeats_colour(index) ? " stroke-dasharray='6 4'" : "");
  }
  if (series.points_only || drawn.size() <= 40)
    for (const size_t i : drawn)
      if (shown(i))
        marker(canvas, index, canvas.x(x, series.x[i]), canvas.y(y, series.y[i]), colour);
  canvas.put("\n");
}

}  // namespace

std::string draw(const Lines& chart) {
  std::vector<double> xs, ys;
  std::vector<std::string> names;
  for (const auto& series : chart.series) {
    require(series.x.size() == series.y.size() &&
                (series.spread.empty() || series.spread.size() == series.y.size()),
            "plot '{}': series '{}' has {} x, {} y and {} spreads", chart.title, series.name,
            series.x.size(), series.y.size(), series.spread.size());
    xs.insert(xs.end(), series.x.begin(), series.x.end());
    ys.insert(ys.end(), series.y.begin(), series.y.end());
    for (size_t i = 0; i < series.spread.size(); ++i)
      for (const double sign : {-1.0, 1.0}) ys.push_back(series.y[i] + sign * series.spread[i]);
    names.push_back(series.name);
  }
  Axis tight = chart.x;  // an x axis ends where the data ends
  for (const double value : xs) {
    if (!std::isfinite(value) || (tight.spacing == Spacing::logarithmic && value <= 0)) continue;
    if (!chart.x.low) tight.low = std::min(tight.low.value_or(value), value);
    if (!chart.x.high) tight.high = std::max(tight.high.value_or(value), value);
  }
  const auto x = range_of(tight, xs), y = range_of(chart.y, ys);
  Canvas canvas;
  legend(canvas, names);
  y_axis(canvas, y, chart.y);
  x_axis(canvas, x, chart.x);
  frame(canvas);
  // An inner picture, because it clips what lies beyond limits that were set.
  canvas.put(
      "<svg x='{0:.1f}' y='{1:.1f}' width='{2:.1f}' height='{3:.1f}' viewBox='{0:.1f} {1:.1f} "
      "{2:.1f} {3:.1f}'>\n",
      canvas.left - 4, canvas.top - 4, canvas.width() + 8, canvas.height() + 8);
  for (size_t i = 0; i < chart.series.size(); ++i) draw_series(canvas, chart.series[i], i, x, y);
  canvas.put("</svg>\n");
  return document(chart.title, canvas);
}

}  // namespace cajal::plot
