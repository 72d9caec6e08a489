#include "cajal/data/shapes.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "cajal/core/error.h"
#include "cajal/core/random.h"

namespace cajal::data {
namespace {

constexpr int kForms = 5;

/// Whether the point (u, v), in units of the radius and turned upright, lies inside the form.
bool inside(int form, double u, double v) {
  const double r = std::hypot(u, v), across = std::max(std::abs(u), std::abs(v));
  switch (form) {
    case 0:
      return r < 1;
    case 1:
      return r < 1 && r > 0.55;
    case 2:
      return across < 0.8;
    case 3:  // upright, its corners on the unit circle
      return v < 0.5 && v > -1 + std::numbers::sqrt3 * std::abs(u);
    default:
      return across < 0.95 && std::min(std::abs(u), std::abs(v)) < 0.3;
  }
}

struct Colour {
  double part[3];
};
Colour colour(Random& random) { return {{random.uniform(), random.uniform(), random.uniform()}}; }

double difference(const Colour& a, const Colour& b) {
  double sum = 0;
  for (int c = 0; c < 3; ++c) sum += std::abs(a.part[c] - b.part[c]);
  return sum / 3;
}

void draw(Random& random, int label, const ShapesOptions& o, uint8_t* pixels) {
  const double side = static_cast<double>(o.size);
  const double radius = 0.5 * (o.smallest + (o.largest - o.smallest) * random.uniform());
  const double x0 = radius + (side - 2 * radius) * random.uniform();
  const double y0 = radius + (side - 2 * radius) * random.uniform();
  const double angle = 2 * std::numbers::pi * random.uniform();
  const double slope = 2 * std::numbers::pi * random.uniform();
  const Colour from = colour(random), to = colour(random);
  Colour ink = colour(random);
  const auto shown = [&](double r) { return r > 0.25; };
  for (int tries = 0; tries < 32 && !(shown(difference(ink, from)) && shown(difference(ink, to)));
       ++tries)
    ink = colour(random);
  const bool striped = label >= kForms;
  for (int64_t y = 0; y < o.size; ++y)
    for (int64_t x = 0; x < o.size; ++x) {
      const double dx = (static_cast<double>(x) - x0) / radius;
      const double dy = (static_cast<double>(y) - y0) / radius;
      const double u = dx * std::cos(angle) + dy * std::sin(angle);
      const double v = -dx * std::sin(angle) + dy * std::cos(angle);
      const bool stripe = striped && std::fmod(v + 4, 0.5) > 0.25;
      const bool on = inside(label % kForms, u, v) && !stripe;
      const double along = ((static_cast<double>(x) / side - 0.5) * std::cos(slope) +
                            (static_cast<double>(y) / side - 0.5) * std::sin(slope)) /
                               std::numbers::sqrt2 +
                           0.5;
      for (int64_t c = 0; c < o.channels; ++c) {
        const auto& f = from.part[c];
        const double paper = f + (to.part[c] - f) * along;
        const double value = (on ? ink.part[c] : paper) + o.noise * random.normal();
        pixels[(c * o.size + y) * o.size + x] =
            static_cast<uint8_t>(std::lround(255 * std::clamp(value, 0.0, 1.0)));
      }
    }
}

}  // namespace

LabelledImages shapes(int64_t count, uint64_t seed, const ShapesOptions& o) {
  require(count > 0 && o.size > 0 && o.size <= 4096, "shapes: {} pictures of {} pixels", count,
          o.size);
  require(o.channels == 1 || o.channels == 3, "shapes: channels: expected 1 or 3, got {}",
          o.channels);
  require(o.smallest > 0 && o.smallest <= o.largest && o.largest <= static_cast<double>(o.size),
          "shapes: diameters {} to {} do not fit {} pixels", o.smallest, o.largest, o.size);
  require(o.noise >= 0, "shapes: noise: expected 0 or more, got {}", o.noise);
  const int64_t bytes = o.channels * o.size * o.size;
  require(count <= static_cast<int64_t>(kMaxBytes) / bytes, "shapes: {} pictures are too many",
          count);
  LabelledImages out;
  out.images.shape = {count, o.size, o.size};
  if (o.channels == 3) out.images.shape.insert(out.images.shape.begin() + 1, 3);
  out.images.bytes.resize(static_cast<size_t>(count * bytes));
  Random random(seed, 0x5a);
  for (int64_t i = 0; i < count; ++i) {
    const int label = static_cast<int>(i % (2 * kForms));
    draw(random, label, o, reinterpret_cast<uint8_t*>(out.images.bytes.data()) + i * bytes);
    out.labels.push_back(static_cast<uint8_t>(label));
  }
  return out;
}

}  // namespace cajal::data
