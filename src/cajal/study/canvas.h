#pragma once
#include <fmt/format.h>

#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "cajal/study/range.h"

namespace cajal::plot {

constexpr double kWidth = 720, kHeight = 420;

/// Colours of the series, told apart by colour-blind eyes on light and on dark ground.
const char* colour_of(size_t series);
bool repeats_colour(size_t series);  // the colours ran out: draw it another way

/// Width of a text in the 12 px font, about.
double text_width(std::string_view text);

/// The rectangle that the data is drawn in, and the SVG text so far.
struct Canvas {
  double left = 64, right = kWidth - 20, top = 44, bottom = kHeight - 52;
  std::string body;

  template <class... Args>
  void put(fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(body), format, std::forward<Args>(args)...);
  }
  double width() const { return right - left; }
  double height() const { return bottom - top; }
  double x(const Range& range, double value) const {
    return left + width() * range.position(value);
  }
  double y(const Range& range, double value) const {
    return bottom - height() * range.position(value);
  }
  void line(double x1, double y1, double x2, double y2, std::string_view style);
  void text(double at_x, double at_y, std::string_view words, std::string_view anchor = "middle",
            std::string_view more = "");
};

/// The finished SVG.
std::string document(const std::string& title, const Canvas& canvas);

/// Names with a sample of their colour under the title, in as many rows as they need.
void legend(Canvas& canvas, const std::vector<std::string>& names);

/// Ticks, grid and label; the y axis makes room on the left for its numbers.
void y_axis(Canvas& canvas, const Range& range, const Axis& axis);
void x_axis(Canvas& canvas, const Range& range, const Axis& axis);
void y_label(Canvas& canvas, const std::string& label);
void frame(Canvas& canvas);

/// Slots of equal width along the x axis.
double slot_width(const Canvas& canvas, size_t slots);

/// Every how many-th name to write so that they do not touch, a round number.
size_t name_stride(double least);

/// Whether names under equal slots must be slanted to fit, the room that takes, and the names.
bool must_slant(const Canvas& canvas, const std::vector<std::string>& names);
void make_room(Canvas& canvas, const std::vector<std::string>& names, bool slanted);
void slot_names(Canvas& canvas, const std::vector<std::string>& names, bool slanted);

/// The kinds of charts.
std::string draw(const Lines& chart);
std::string draw(const BarChart& chart);
std::string draw(const HeatMap& chart);
std::string draw(const Pictures& chart);

}  // namespace cajal::plot
