#include "cajal/data/corruption.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "cajal/core/error.h"

namespace cajal::data {

void change_light(const LightChange& c, std::span<float> picture, int64_t width, Random& random) {
  require(width > 0 && picture.size() % static_cast<size_t>(width) == 0,
          "change_light: {} values do not make rows of {}", picture.size(), width);
  require(c.gamma > 0 && c.noise >= 0,
          "change_light: gamma {} must be positive, noise {} not below 0", c.gamma, c.noise);
  if (picture.empty()) return;
  const double mean =
      std::accumulate(picture.begin(), picture.end(), 0.0) / static_cast<double>(picture.size());
  const bool plain =
      c.contrast == 1 && c.brightness == 0;  // keeps every bit of a picture left alone
  for (size_t i = 0; i < picture.size(); ++i) {
    double value = plain ? picture[i] : c.contrast * (picture[i] - mean) + mean + c.brightness;
    if (c.gamma != 1) value = std::pow(std::max(value, 0.0), c.gamma);
    if (c.gradient != 0 && width > 1) {
      const auto column = static_cast<double>(i % static_cast<size_t>(width));
      value *= 1 + c.gradient * (2 * column / static_cast<double>(width - 1) - 1);
    }
    if (c.noise > 0) value += c.noise * random.normal();
    picture[i] = static_cast<float>(c.clip ? std::clamp(value, 0.0, 1.0) : value);
  }
}

namespace {
std::vector<NamedLightChange> grid(const char* name, double LightChange::*what,
                                   std::initializer_list<double> values, bool clip) {
  std::vector<NamedLightChange> out;
  for (const double value : values) {
    LightChange change;
    change.*what = value, change.clip = clip;
    out.push_back({fmt::format("{}={}", name, value), change});
  }
  return out;
}
}  // namespace

std::vector<NamedLightChange> brightness_grid(bool clip) {
  return grid("b", &LightChange::brightness,
              {-0.6, -0.5, -0.4, -0.3, -0.2, -0.1, 0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6}, clip);
}
std::vector<NamedLightChange> contrast_grid(bool clip) {
  return grid("a", &LightChange::contrast, {0.1, 0.2, 0.4, 0.6, 0.8, 1, 1.5, 2}, clip);
}
std::vector<NamedLightChange> gamma_grid() {
  return grid("gamma", &LightChange::gamma, {0.3, 0.5, 0.7, 1, 1.5, 2, 3}, false);
}
std::vector<NamedLightChange> gradient_grid() {
  return grid("gradient", &LightChange::gradient, {0.2, 0.4, 0.6, 0.8}, false);
}

}  // namespace cajal::data
