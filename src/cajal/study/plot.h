#pragma once
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

/// Charts as SVG, drawn here: no plotting program is needed. They follow the light or dark setting
/// of the reader, and their colours (Okabe and Ito; viridis for heat) keep apart for colour-blind
/// eyes. Values that are not finite leave gaps, as do values <= 0 on a logarithmic axis.
namespace cajal::plot {

enum class Spacing { linear, logarithmic };

/// An axis: {"step"}, {"loss, bits per byte", Spacing::logarithmic}, or with limits; limits left
/// out come from the data.
struct Axis {
  Axis(std::string name = "", Spacing how = Spacing::linear, std::optional<double> from = {},
       std::optional<double> to = {})
      : label(std::move(name)), spacing(how), low(from), high(to) {}

  std::string label;  // with its unit
  Spacing spacing;
  std::optional<double> low, high;
};

/// One line: y over x, with ± spread as a band where given.
struct Series {
  std::string name;
  std::vector<double> x, y;
  std::vector<double> spread = {};
  bool points_only = false;
};

struct Lines {
  std::string title;
  Axis x = Axis(), y = Axis();
  std::vector<Series> series = {};
};

/// One bar of each group, e.g. one method on each data set.
struct Bars {
  std::string name;
  std::vector<double> values;
  std::vector<double> spread = {};
};

struct BarChart {
  std::string title;
  Axis y = Axis();
  std::vector<std::string> groups = {};
  std::vector<Bars> bars = {};
};

struct HeatMap {
  std::string title;
  std::string x = "", y = "";                        // labels of the axes
  std::vector<std::string> columns = {}, rows = {};  // their names; numbers where left out
  std::vector<std::vector<double>> values = {};      // [rows][columns]; row 0 at the top
  std::string unit = "";
};

/// Grey pictures side by side, 0 black to 1 white; all of a row have one size.
struct Pictures {
  std::string title;
  std::vector<std::string> columns = {}, rows = {};             // their names
  std::vector<std::vector<std::vector<double>>> pictures = {};  // [rows][columns][pixels]
  std::vector<size_t> widths = {};                              // pixels across, a row each
};

using Chart = std::variant<Lines, BarChart, HeatMap, Pictures>;

const std::string& title(const Chart& chart);

/// A complete SVG document that can also stand inside an HTML page.
/// Throws Error that names the chart and the series whose sizes do not fit.
std::string svg(const Chart& chart);

/// The chart's data, one header line and a row a point, bar group or heat map row; nothing for
/// pictures.
std::string csv(const Chart& chart);

}  // namespace cajal::plot
