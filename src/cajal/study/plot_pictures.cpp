#include <algorithm>
#include <cmath>

#include "cajal/core/error.h"
#include "cajal/data/image.h"
#include "cajal/study/canvas.h"
#include "cajal/study/plot.h"

namespace cajal::plot {
namespace {

std::string base64(std::string_view bytes) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    for (size_t j = 0; j < 3; ++j)
      group = group << 8 | (i + j < bytes.size() ? static_cast<uint8_t>(bytes[i + j]) : 0);
    for (size_t j = 0; j < 4; ++j)
      out += i + j > bytes.size() ? '=' : kDigits[group >> (18 - 6 * j) & 63];
  }
  return out;
}

std::string png_of(const Pictures& chart, const std::vector<double>& pixels, size_t width) {
  data::Image image{.width = static_cast<int64_t>(width),
                    .height = static_cast<int64_t>(pixels.size() / width),
                    .channels = 1,
                    .samples = {}};
  for (const double value : pixels)
    image.samples.push_back(static_cast<uint16_t>(std::lround(255 * std::clamp(value, 0.0, 1.0))));
  return data::encode_png(image, fmt::format("plot '{}'", chart.title));
}

void require_sizes(const Pictures& chart) {
  require(chart.rows.size() == chart.pictures.size() && chart.widths.size() == chart.rows.size(),
          "plot '{}': {} names and {} widths for {} rows of pictures", chart.title,
          chart.rows.size(), chart.widths.size(), chart.pictures.size());
  for (size_t i = 0; i < chart.pictures.size(); ++i) {
    const auto& row = chart.pictures[i];
    require(!row.empty() && row.size() == chart.columns.size(),
            "plot '{}': row {} has {} pictures for {} columns", chart.title, chart.rows[i],
            row.size(), chart.columns.size());
    for (const auto& pixels : row)
      require(!pixels.empty() && pixels.size() == row[0].size() && chart.widths[i] > 0 &&
                  pixels.size() % chart.widths[i] == 0,
              "plot '{}': row {}: {} pixels, expected {} in lines of {}", chart.title,
              chart.rows[i], pixels.size(), row[0].size(), chart.widths[i]);
  }
}

}  // namespace

std::string draw(const Pictures& chart) {
  require_sizes(chart);
  constexpr double kGap = 6;
  Canvas canvas;
  canvas.left = 20, canvas.top = 54;
  const double slot =
      canvas.width() / static_cast<double>(std::max<size_t>(chart.columns.size(), 1));
  double slope = 0;  // heights of all rows together, of a picture one wide
  for (size_t i = 0; i < chart.rows.size(); ++i) {
    const auto width = static_cast<double>(chart.widths[i]);
    slope += static_cast<double>(chart.pictures[i][0].size()) / (width * width);
  }
  const double room = kHeight - 10 - canvas.top - 20 * static_cast<double>(chart.rows.size());
  const double wide = std::min(slot - kGap, room / std::max(slope, 1e-9));
  for (size_t j = 0; j < chart.columns.size(); ++j)
    canvas.text(canvas.left + slot * (static_cast<double>(j) + 0.5), canvas.top - 8,
                chart.columns[j]);
  double y = canvas.top;
  for (size_t i = 0; i < chart.rows.size(); ++i) {
    const auto width = static_cast<double>(chart.widths[i]);
    const double tall = wide * static_cast<double>(chart.pictures[i][0].size()) / (width * width);
    for (size_t j = 0; j < chart.columns.size(); ++j)
      canvas.put(
          "<image x='{:.1f}' y='{:.1f}' width='{:.1f}' height='{:.1f}' "
          "style='image-rendering:pixelated' href='data:image/png;base64,{}'/>\n",
          canvas.left + slot * (static_cast<double>(j) + 0.5) - wide / 2, y, wide, tall,
          base64(png_of(chart, chart.pictures[i][j], chart.widths[i])));
    y += tall + 14;
    canvas.text(canvas.left + canvas.width() / 2, y, chart.rows[i]);
    y += 6;
  }
  return document(chart.title, canvas);
}

}  // namespace cajal::plot
