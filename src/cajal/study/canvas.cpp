#include "cajal/study/canvas.h"

#include <algorithm>
#include <cmath>

#include "cajal/study/html.h"

namespace cajal::plot {
namespace {

// Okabe and Ito's colours without yellow and black, which vanish on one of the two grounds.
constexpr const char* kColours[] = {"#0072B2", "#D55E00", "#009E73", "#CC79A7",
                                    "#E69F00", "#56B4E9", "#8C8C8C"};
constexpr std::string_view kGrid = "stroke='#808080' stroke-opacity='.25'";

double slot_width(const Canvas& canvas, size_t slots) {
  return canvas.width() / static_cast<double>(std::max<size_t>(slots, 1));
}

}  // namespace

const char* colour_of(size_t series) { return kColours[series % std::size(kColours)]; }

bool repeats_colour(size_t series) { return series >= std::size(kColours); }

double text_width(std::string_view text) {
  constexpr double kCharacter = 6.7;
  // Characters, not bytes.
  return kCharacter * static_cast<double>(std::count_if(text.begin(), text.end(),
                                                        [](char c) { return (c & 0xc0) != 0x80; }));
}

void Canvas::line(double x1, double y1, double x2, double y2, std::string_view style) {
  put("<line x1='{:.1f}' y1='{:.1f}' x2='{:.1f}' y2='{:.1f}' {}/>\n", x1, y1, x2, y2, style);
}

void Canvas::text(double at_x, double at_y, std::string_view words, std::string_view anchor,
                  std::string_view more) {
  put("<text x='{:.1f}' y='{:.1f}' text-anchor='{}' {}>{}</text>\n", at_x, at_y, anchor, more,
      html::escape(words));
}

std::string document(const std::string& title, const Canvas& canvas) {
  return fmt::format(
      "<svg xmlns='http://www.w3.org/2000/svg' class='cajal' viewBox='0 0 {0} {1}' width='{0}' "
      "height='{1}' role='img' aria-label='{2}' font-family='system-ui, sans-serif' "
      "font-size='12'>\n<style>.cajal text{{fill:#222}}.cajal .ground{{fill:#fff}}"
      ".cajal .grid{{stroke:#808080;stroke-opacity:.25}}.cajal .frame{{stroke:#808080;fill:none}}"
      "@media (prefers-color-scheme:dark){{.cajal text{{fill:#ddd}}.cajal .ground{{fill:#16181c}}"
      "}}</style>\n<rect class='ground' width='{0}' height='{1}' fill='#fff'/>\n"
      "<text x='{3}' y='20' text-anchor='middle' font-size='15' font-weight='600'>{2}</text>\n"
      "{4}</svg>\n",
      kWidth, kHeight, html::escape(title), kWidth / 2, canvas.body);
}

/// Names with a sample of their colour under the title, in as many rows as they need.
void legend(Canvas& canvas, const std::vector<std::string>& names) {
  if (names.size() < 2 && (names.empty() || names[0].empty())) return;
  double x = canvas.left, y = 40;
  for (size_t i = 0; i < names.size(); ++i) {
    const double width = 30 + text_width(names[i]) + 14;
    if (x + width > kWidth - 10 && x > canvas.left) x = canvas.left, y += 17;
    canvas.put("<rect x='{:.1f}' y='{:.1f}' width='22' height='{}' rx='1' fill='{}'/>\n", x, y - 6,
               repeats_colour(i) ? 2 : 4, colour_of(i));
    canvas.text(x + 28, y, names[i], "start");
    x += width;
  }
  canvas.top = y + 14;
}

void y_label(Canvas& canvas, const std::string& label) {
  const double middle = (canvas.top + canvas.bottom) / 2;
  if (!label.empty())
    canvas.text(16, middle, label, "middle",
                fmt::format("transform='rotate(-90 16 {:.1f})'", middle));
}

void y_axis(Canvas& canvas, const Range& range, const Axis& axis) {
  const auto marks = ticks(range, 6);
  double widest = 0;
  for (const auto& tick : marks) widest = std::max(widest, text_width(tick.text));
  canvas.left = std::max(canvas.left, widest + (axis.label.empty() ? 16 : 38));
  for (const auto& tick : marks) {
    const double y = canvas.y(range, tick.value);
    canvas.line(canvas.left, y, canvas.right, y, kGrid);
    canvas.text(canvas.left - 7, y + 4, tick.text, "end");
  }
  y_label(canvas, axis.label);
}

void x_axis(Canvas& canvas, const Range& range, const Axis& axis) {
  for (const auto& tick : ticks(range, 8)) {
    const double x = canvas.x(range, tick.value);
    canvas.line(x, canvas.top, x, canvas.bottom, kGrid);
    canvas.text(x, canvas.bottom + 17, tick.text);
  }
  canvas.text((canvas.left + canvas.right) / 2, canvas.bottom + 38, axis.label);
}

void frame(Canvas& canvas) {
  canvas.put(
      "<rect class='frame' fill='none' stroke='#808080' x='{:.1f}' y='{:.1f}' width='{:.1f}' "
      "height='{:.1f}'/>\n",
      canvas.left, canvas.top, canvas.right - canvas.left, canvas.bottom - canvas.top);
}

void slot_names(Canvas& canvas, const std::vector<std::string>& names, bool slanted) {
  const double slot = slot_width(canvas, names.size());
  double needed = 14;  // px a name: the height of a slanted one, else the width
  if (!slanted)
    for (const auto& name : names) needed = std::max(needed, text_width(name) + 4);
  const auto stride = static_cast<size_t>(std::max(1.0, std::ceil(needed / slot)));
  for (size_t i = 0; i < names.size(); i += stride) {
    const double x = canvas.left + slot * (static_cast<double>(i) + 0.5), y = canvas.bottom + 16;
    if (slanted) {
      canvas.text(x + 3, y - 2, names[i], "end",
                  fmt::format("transform='rotate(-35 {:.1f} {:.1f})'", x + 3, y - 2));
    } else {
      canvas.text(x, y, names[i]);
    }
  }
}

bool must_slant(const Canvas& canvas, const std::vector<std::string>& names) {
  const double slot = slot_width(canvas, names.size());
  return std::any_of(names.begin(), names.end(),
                     [&](const auto& l) { return text_width(l) > slot - 4; });
}

void make_room(Canvas& canvas, const std::vector<std::string>& names, bool slanted) {
  if (!slanted) return;
  double widest = 0;
  for (const auto& name : names) widest = std::max(widest, text_width(name));
  canvas.bottom = std::max(canvas.top + 120, kHeight - 44 - 0.58 * widest);
}

}  // namespace cajal::plot
