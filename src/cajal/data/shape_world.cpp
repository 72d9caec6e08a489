#include "cajal/data/shape_world.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "cajal/core/error.h"
#include "cajal/core/random.h"

namespace cajal::data {
namespace {

using Rgb = std::array<double, 3>;
constexpr Rgb kInk[] = {{0.9, 0.1, 0.1},  {0.1, 0.75, 0.1}, {0.15, 0.25, 0.95},
                        {0.95, 0.9, 0.1}, {0.7, 0.15, 0.8}, {0.1, 0.85, 0.85}};
constexpr Rgb kPaper[] = {{0.15, 0.15, 0.15}, {0.8, 0.8, 0.8}};

// Rows of 5 bits, from the top.
struct Glyph {
  char letter;
  std::array<uint8_t, 7> rows;
};
constexpr Glyph kGlyphs[] = {
    {'C', {0b01110, 0b10001, 0b10000, 0b10000, 0b10000, 0b10001, 0b01110}},
    {'S', {0b01111, 0b10000, 0b10000, 0b01110, 0b00001, 0b00001, 0b11110}},
    {'T', {0b11111, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100}},
    {'X', {0b10001, 0b10001, 0b01010, 0b00100, 0b01010, 0b10001, 0b10001}},
    {'L', {0b10000, 0b10000, 0b10000, 0b10000, 0b10000, 0b10000, 0b11111}},
    {'A', {0b01110, 0b10001, 0b10001, 0b11111, 0b10001, 0b10001, 0b10001}},
    {'E', {0b11111, 0b10000, 0b10000, 0b11110, 0b10000, 0b10000, 0b11111}},
    {'F', {0b11111, 0b10000, 0b10000, 0b11110, 0b10000, 0b10000, 0b10000}},
    {'H', {0b10001, 0b10001, 0b10001, 0b11111, 0b10001, 0b10001, 0b10001}},
    {'K', {0b10001, 0b10010, 0b10100, 0b11000, 0b10100, 0b10010, 0b10001}},
    {'N', {0b10001, 0b11001, 0b10101, 0b10011, 0b10001, 0b10001, 0b10001}},
    {'Z', {0b11111, 0b00001, 0b00010, 0b00100, 0b01000, 0b10000, 0b11111}}};

const Glyph& glyph(char letter) {
  for (const auto& g : kGlyphs)
    if (g.letter == letter) return g;
  fail("shape world: no letter '{}'", letter);
}

/// Whether the point (u, v), in units of half the size, lies in the object.
bool inside(const WorldObject& o, double u, double v) {
  switch (o.shape) {
    case 0:
      return std::hypot(u, v) < 1;
    case 1:
      return std::max(std::abs(u), std::abs(v)) < 0.85;
    case 2:
      return v < 0.8 && v > -1 + 1.8 * std::abs(u);
    case 3:
      return std::max(std::abs(u), std::abs(v)) < 1 && std::min(std::abs(u), std::abs(v)) < 0.33;
    default: {
      const auto row = static_cast<int>(std::floor((v + 1) * 3.5)),
                 column = static_cast<int>(std::floor((u + 0.714) * 3.5));
      if (row < 0 || row >= 7 || column < 0 || column >= 5) return false;
      return (glyph(o.letter).rows[static_cast<size_t>(row)] >> (4 - column)) & 1;
    }
  }
}

/// Share of ink at a pixel of the picture: the rest is half as bright.
bool inked(const WorldObject& o, int64_t x, int64_t y) {
  if (o.texture == 1) return (x + y) % 6 < 3;
  if (o.texture == 2) return !(x % 4 < 2 && y % 4 < 2);
  return true;
}

class Painter {
 public:
  Painter(Random& random, const ShapeWorldOptions& options) : random_(random), o_(options) {}

  std::vector<WorldObject> choose(bool& has_initial) {
    std::vector<WorldObject> objects;
    const auto wanted =
        o_.fewest + static_cast<int64_t>(below(static_cast<uint64_t>(o_.most - o_.fewest + 1)));
    has_initial = o_.initial_share > 0 && random_.uniform() < o_.initial_share;
    for (int64_t i = 0; i < wanted; ++i) {
      WorldObject best;
      double gap = -1e9;
      for (int tries = 0; tries < 16 && gap < 0; ++tries) {
        auto one = object();
        const double free = room(one, objects, has_initial);
        if (free > gap) best = one, gap = free;
      }
      objects.push_back(best);
    }
    if (has_initial) objects.push_back(initial(objects.front().shape));
    return objects;
  }

  void draw(const std::vector<WorldObject>& objects, int background, uint8_t* image,
            uint8_t* owner) {
    const int64_t n = o_.size;
    for (int64_t y = 0; y < n; ++y)
      for (int64_t x = 0; x < n; ++x) {
        Rgb colour = kPaper[background];
        owner[y * n + x] = 0;
        for (size_t i = 0; i < objects.size(); ++i) {
          const auto& one = objects[i];
          const double half = one.size / 2;
          if (!inside(one, (static_cast<double>(x) + 0.5 - one.x) / half,
                      (static_cast<double>(y) + 0.5 - one.y) / half))
            continue;
          owner[y * n + x] = static_cast<uint8_t>(i + 1);
          colour = kInk[one.colour];
          if (!inked(one, x, y))
            for (auto& part : colour) part *= 0.35;
        }
        for (int64_t c = 0; c < 3; ++c) {
          const double value = colour[static_cast<size_t>(c)] + o_.noise * random_.normal();
          image[(c * n + y) * n + x] =
              static_cast<uint8_t>(std::lround(255 * std::clamp(value, 0.0, 1.0)));
        }
      }
  }

  uint64_t below(uint64_t count) { return random_.below(count); }

 private:
  WorldObject object() {
    WorldObject out;
    out.shape = static_cast<int>(below(static_cast<uint64_t>(o_.shapes))),
    out.colour = static_cast<int>(below(6));
    out.texture = static_cast<int>(below(3));
    out.letter = kWorldLetters[below(kWorldLetters.size())];
    out.size = o_.smallest + (o_.largest - o_.smallest) * random_.uniform();
    const double free = static_cast<double>(o_.size) - out.size;
    out.x = out.size / 2 + free * random_.uniform(),
    out.y = out.size / 2 + free * random_.uniform();
    return out;
  }

  WorldObject initial(int shape) {
    WorldObject out;
    out.shape = 4, out.colour = static_cast<int>(below(6));
    out.letter = kWorldLetters[o_.random_initial ? below(static_cast<uint64_t>(o_.shapes))
                                                 : static_cast<uint64_t>(shape)];
    out.size = 12, out.x = 5.5, out.y = 7;
    return out;
  }

  /// How far the object stays from the others, negative when they overlap.
  double room(const WorldObject& one, const std::vector<WorldObject>& others, bool corner) const {
    double least = 1e9;
    for (const auto& other : others)
      least = std::min(least,
                       std::hypot(one.x - other.x, one.y - other.y) - (one.size + other.size) / 2);
    if (corner) least = std::min(least, std::hypot(one.x - 5, one.y - 6) - one.size / 2 - 7);
    return least;
  }

  Random& random_;
  const ShapeWorldOptions& o_;
};

Array bytes_of(std::vector<int64_t> shape, Dtype dtype) {
  Array out;
  out.dtype = dtype;
  out.bytes.resize(tensor_bytes(dtype, shape, "shape world"));
  out.shape = std::move(shape);
  return out;
}

}  // namespace

WorldPictures shape_world(int64_t count, uint64_t seed, const ShapeWorldOptions& o) {
  require(count > 0 && o.size >= 16 && o.size <= 1024 &&
              count <= static_cast<int64_t>(kMaxBytes) / (4 * o.size * o.size),
          "shape world: {} pictures of {} pixels", count, o.size);
  require(o.fewest > 0 && o.fewest <= o.most && o.most <= 32,
          "shape world: {} to {} objects a picture", o.fewest, o.most);
  require(o.shapes >= 1 && o.shapes <= 5, "shape world: {} shapes, expected 1 to 5", o.shapes);
  require(o.smallest >= 4 && o.smallest <= o.largest && o.largest <= static_cast<double>(o.size),
          "shape world: sizes {} to {} do not fit {} pixels", o.smallest, o.largest, o.size);
  require(o.noise >= 0 && o.initial_share >= 0 && o.initial_share <= 1,
          "shape world: noise {} or share of initials {}", o.noise, o.initial_share);
  WorldPictures out;
  out.images = bytes_of({count, 3, o.size, o.size}, Dtype::u8);
  out.owner = bytes_of({count, o.size, o.size}, Dtype::u8);
  Random random(seed, 0x31);
  Painter painter(random, o);
  const int64_t area = o.size * o.size;
  for (int64_t i = 0; i < count; ++i) {
    bool has_initial = false;
    out.objects.push_back(painter.choose(has_initial));
    out.has_initial.push_back(has_initial);
    out.background.push_back(static_cast<uint8_t>(painter.below(2)));
    painter.draw(out.objects.back(), out.background.back(),
                 reinterpret_cast<uint8_t*>(out.images.bytes.data()) + 3 * i * area,
                 reinterpret_cast<uint8_t*>(out.owner.bytes.data()) + i * area);
  }
  return out;
}

Array pixel_kinds(const WorldPictures& pictures, int rim) {
  require(rim >= 0 && rim < 16, "shape world: a rim of {} pixels", rim);
  const int64_t count = pictures.owner.shape[0], n = pictures.owner.shape[1];
  auto out = bytes_of({count, n, n}, Dtype::i16);
  auto* kinds = reinterpret_cast<int16_t*>(out.bytes.data());
  const auto owners = pictures.owner.values<uint8_t>();
  for (int64_t i = 0; i < count; ++i) {
    const auto* owner = owners.data() + i * n * n;
    const auto& objects = pictures.objects[static_cast<size_t>(i)];
    for (int64_t y = 0; y < n; ++y)
      for (int64_t x = 0; x < n; ++x) {
        const int own = owner[y * n + x];
        int other = own;  // the nearest owner of another kind within the rim
        for (int64_t dy = -rim; dy <= rim && other == own; ++dy)
          for (int64_t dx = -rim; dx <= rim && other == own; ++dx) {
            if (dx * dx + dy * dy > rim * rim) continue;
            const int64_t u = x + dx, v = y + dy;
            if (u >= 0 && v >= 0 && u < n && v < n) other = owner[v * n + u];
          }
        int64_t kind = 3 * kWorldKinds + pictures.background[static_cast<size_t>(i)];
        if (own > 0)
          kind = world_kind(objects[static_cast<size_t>(own - 1)]) + (other != own) * kWorldKinds;
        else if (other > 0)
          kind = world_kind(objects[static_cast<size_t>(other - 1)]) + 2 * kWorldKinds;
        kinds[(i * n + y) * n + x] = static_cast<int16_t>(kind);
      }
  }
  return out;
}

}  // namespace cajal::data
