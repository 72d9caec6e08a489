#include "cajal/data/item_canvas.h"

#include <algorithm>
#include <cmath>

#include "cajal/core/error.h"

namespace cajal::data {
namespace {

double shade(ItemTexture texture, int64_t x, int64_t y, int64_t side) {
  const double dark = 0.15;
  const double half = static_cast<double>(side - 1) / 2;
  switch (texture) {
    case ItemTexture::plain:
      return 1;
    case ItemTexture::striped:
      return y % 4 < 2 ? 1 : dark;
    case ItemTexture::checker:
      return (x / 2 + y / 2) % 2 ? 1 : dark;
    case ItemTexture::diagonal:
      return (x + y) % 4 < 2 ? 1 : dark;
    case ItemTexture::rings:
      return static_cast<int64_t>(
                 std::hypot(static_cast<double>(x) - half, static_cast<double>(y) - half)) %
                         3 <
                     2
                 ? 1
                 : dark;
  }
  return 1;
}

}  // namespace

Caption caption_of(std::string_view text) {
  Caption out{};
  size_t at = 0;
  int64_t count = 0;
  while (at < text.size()) {
    const auto end = std::min(text.find(' ', at), text.size());
    const auto word = text.substr(at, end - at);
    at = end + 1;
    if (word.empty()) continue;
    const auto found = std::find(kCanvasWords.begin(), kCanvasWords.end(), word);
    require(found != kCanvasWords.end(), "caption: no word '{}'", word);
    require(count < kCaptionLength, "caption: '{}' has more than {} words", text, kCaptionLength);
    out[static_cast<size_t>(count++)] = found - kCanvasWords.begin();
  }
  return out;
}

std::string text_of(std::span<const int64_t> caption) {
  std::string out;
  for (const auto id : caption) {
    if (id == 0) continue;
    require(id > 0 && id < std::ssize(kCanvasWords), "caption: word {} of {}", id,
            kCanvasWords.size());
    if (!out.empty()) out += ' ';
    out += kCanvasWords[static_cast<size_t>(id)];
  }
  return out;
}

std::vector<Item> items_of(const LabelledImages& images, int64_t side, int64_t most) {
  require(images.images.shape.size() == 3 && side > 0, "items: expected grey pictures, side {}",
          side);
  const int64_t count = std::min(most, images.images.shape[0]), h = images.images.shape[1],
                w = images.images.shape[2];
  const auto pixels = images.images.values<uint8_t>();
  std::vector<Item> out;
  for (int64_t i = 0; i < count; ++i) {
    Item item{std::vector<float>(static_cast<size_t>(side * side)),
              images.labels[static_cast<size_t>(i)]};
    require(item.class_index < 10, "items: class {}, expected 0 to 9", item.class_index);
    const auto* source = pixels.data() + i * h * w;
    for (int64_t y = 0; y < side; ++y)
      for (int64_t x = 0; x < side; ++x) {
        // Shares of the source pixels that the target's area covers.
        const double y0 = static_cast<double>(y * h) / static_cast<double>(side),
                     y1 = static_cast<double>((y + 1) * h) / static_cast<double>(side),
                     x0 = static_cast<double>(x * w) / static_cast<double>(side),
                     x1 = static_cast<double>((x + 1) * w) / static_cast<double>(side);
        double sum = 0;
        for (auto v = static_cast<int64_t>(y0); static_cast<double>(v) < y1 && v < h; ++v)
          for (auto u = static_cast<int64_t>(x0); static_cast<double>(u) < x1 && u < w; ++u) {
            const auto fv = static_cast<double>(v), fu = static_cast<double>(u);
            sum += source[v * w + u] * (std::min(y1, fv + 1) - std::max(y0, fv)) *
                   (std::min(x1, fu + 1) - std::max(x0, fu));
          }
        item.pixels[static_cast<size_t>(y * side + x)] =
            static_cast<float>(sum / (255 * (y1 - y0) * (x1 - x0)));
      }
    out.push_back(std::move(item));
  }
  return out;
}

std::vector<Item> generated_items(int64_t count, int64_t side, uint64_t seed) {
  require(count > 0 && side > 3, "items: {} of side {}", count, side);
  Random random(seed, 0x17);
  std::vector<Item> out;
  for (int64_t i = 0; i < count; ++i) {
    Item item{std::vector<float>(static_cast<size_t>(side * side)), static_cast<int>(i % 10)};
    const double wide = 0.6 + 0.35 * random.uniform(), high = 0.6 + 0.35 * random.uniform();
    const double light = 0.6 + 0.4 * random.uniform();
    for (int64_t y = 0; y < side; ++y)
      for (int64_t x = 0; x < side; ++x) {
        const double u = (2 * static_cast<double>(x) + 1) / static_cast<double>(side) - 1,
                     v = (2 * static_cast<double>(y) + 1) / static_cast<double>(side) - 1;
        const double a = std::abs(u) / wide, b = std::abs(v) / high;
        const bool forms[] = {a < 1 && b < 1,
                              a * a + b * b < 1,
                              a + b < 1,
                              a < 0.4 || b<0.3, v> - high && a < (v / high + 1) / 2,
                              v < high && a < (1 - v / high) / 2,
                              std::abs(a - b) < 0.35,
                              a < 1 && b < 0.45,
                              a < 0.45 && b < 1,
                              a * a + b * b < 1 && a * a + b * b > 0.35};
        item.pixels[static_cast<size_t>(y * side + x)] =
            forms[item.class_index] && a < 1 && b < 1 ? static_cast<float>(light) : 0.0f;
      }
    out.push_back(std::move(item));
  }
  return out;
}

Caption paint(std::span<const PlacedItem> items, int64_t size, Random& random,
              std::span<float> canvas) {
  require(!items.empty() && items.size() <= 2 && std::ssize(canvas) == size * size,
          "canvas: {} items on {} pixels", items.size(), canvas.size());
  std::fill(canvas.begin(), canvas.end(), 0.0f);
  std::string text;
  for (const auto& placed : items) {
    const auto side = static_cast<int64_t>(std::lround(std::sqrt(placed.item.pixels.size())));
    require(side <= size && placed.place >= 0 && placed.place < 4 && placed.subject >= 0 &&
                placed.subject <= 4,
            "canvas: an item of side {}, place {}, subject {}", side, placed.place, placed.subject);
    const int64_t free = size - side, middle = free / 2;
    const auto jitter = [&] { return static_cast<int64_t>(random.below(3)) - 1; };
    int64_t x = middle + jitter(), y = middle + jitter();
    if (placed.place == 0) x = static_cast<int64_t>(random.below(2));
    if (placed.place == 1) x = free - static_cast<int64_t>(random.below(2));
    if (placed.place == 2) y = static_cast<int64_t>(random.below(2));
    if (placed.place == 3) y = free - static_cast<int64_t>(random.below(2));
    x = std::clamp<int64_t>(x, 0, free), y = std::clamp<int64_t>(y, 0, free);
    for (int64_t v = 0; v < side; ++v)
      for (int64_t u = 0; u < side; ++u) {
        auto& pixel = canvas[static_cast<size_t>((y + v) * size + x + u)];
        const float value = placed.item.pixels[static_cast<size_t>(v * side + u)] *
                            static_cast<float>(shade(placed.texture, u, v, side));
        pixel = std::max(pixel, value);
      }
    const auto say = [&](int64_t id) {
      if (!text.empty()) text += ' ';
      text += kCanvasWords[static_cast<size_t>(id)];
    };
    if (!text.empty()) say(2);
    say(1);
    if (placed.subject > 0)
      say(kFirstSubject + placed.subject - 1);
    else if (placed.texture == ItemTexture::plain || placed.texture == ItemTexture::striped)
      say(kFirstTexture + (placed.texture == ItemTexture::striped));
    say(kFirstClass + placed.item.class_index), say(kFirstPlace + placed.place);
  }
  return caption_of(text);
}

std::vector<PlacedItem> random_scene(const std::vector<Item>& items, Random& random) {
  require(!items.empty(), "canvas: no items");
  const auto one = [&](int place) {
    return PlacedItem{items[random.below(items.size())],
                      random.below(2) ? ItemTexture::striped : ItemTexture::plain, place, 0};
  };
  if (random.below(5) < 3) return {one(static_cast<int>(random.below(4)))};
  const int first = random.below(2) ? 2 : 0;
  return {one(first), one(first + 1)};
}

}  // namespace cajal::data
