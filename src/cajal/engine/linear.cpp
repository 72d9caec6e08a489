#include "cajal/engine/linear.h"

#include <algorithm>

namespace cajal::engine {
namespace {

// Up to so many vectors the stored rows are multiplied as they come; beyond, decoding a panel of
// rows pays.
constexpr int64_t kFewVectors = 8;

bool rounds(const Linear& map, const Input& x) {
  return x.arithmetic == Arithmetic::rounded && map.weight.format != Format::f32;
}

void multiply(const Linear& map, Input& x, float* y) {
  const auto& weight = map.weight;
  const auto all = RowSet::range(0, weight.rows);
  const auto precision = rounds(map, x) ? Precision::bf16 : Precision::f32;
  if (map.is_packed()) {
    multiply_many(map.packed, x.many(precision), y, x.threads);
  } else if (x.batch > kFewVectors) {
    multiply_many(weight, all, x.many(precision), y, x.threads);
  } else if (rounds(map, x) && is_quantised(weight.format)) {
    dot_rows(weight, all, x.rounded(), y, x.threads);
  } else {
    dot_rows(weight, all, x.values, x.batch, y, x.threads);
  }
}

void add_bias(const Linear& map, int64_t batch, int64_t begin, int64_t end, float* y) {
  if (map.bias.empty()) return;
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t i = begin; i < end; ++i)
      y[b * map.outputs() + i] += map.bias[static_cast<size_t>(i)];
}

}  // namespace

const RoundedActivations& Input::rounded() {
  if (!rounded_) rounded_ = std::make_unique<RoundedActivations>(values, batch, width, 8);
  return *rounded_;
}

const PackedActivations& Input::many(Precision precision) {
  auto& form = many_[precision == Precision::bf16];
  if (!form) form = std::make_unique<PackedActivations>(values, batch, width, threads, precision);
  return *form;
}

void Linear::apply(Input& x, float* y) const {
  const Product product{*this, y};
  engine::apply({&product, 1}, x);
}

void Linear::decode(int64_t output, float* values) const {
  if (!is_packed()) return decode_row(weight.format, weight.row(output), inputs(), values);
  std::vector<uint8_t> stored(static_cast<size_t>(row_bytes(weight.format, inputs())));
  packed.get_row(output, stored.data());
  decode_row(weight.format, stored.data(), inputs(), values);
}

void Linear::pack(ThreadPool& threads,
                  const std::function<void(std::span<const std::byte>)>& forget) {
  if (!is_quantised(weight.format) || weight.data == nullptr) return;
  PackedMatrix tiles(weight.format, weight.rows, weight.width, Grouping::rows, "packed matrix");
  // Piece by piece, so that there is never a second copy of the whole.
  const int64_t piece = std::max<int64_t>(kTileRows, (8 << 20) / weight.stride);
  for (int64_t first = 0; first < weight.rows; first += piece) {
    const int64_t count = std::min(piece, weight.rows - first);
    threads.parallel_for(count, kTileRows, [&](int64_t begin, int64_t end) {
      for (int64_t r = first + begin; r < first + end; ++r) tiles.set_row(r, weight.row(r));
    });
    forget({reinterpret_cast<const std::byte*>(weight.row(first)),
            static_cast<size_t>(count * weight.stride)});
  }
  packed = std::move(tiles);
  weight.data = nullptr;
  owned = {};
}

void apply(std::span<const Product> products, Input& x,
           const std::function<void(int64_t begin, int64_t end)>& then) {
  const bool together =
      x.batch <= kFewVectors && std::all_of(products.begin(), products.end(), [&](const auto& p) {
        return p.map.is_packed() && rounds(p.map, x);
      });
  if (!together) {
    for (const auto& [map, y] : products) {
      multiply(map, x, y);
      add_bias(map, x.batch, 0, map.outputs(), y);
    }
    if (then) then(0, products[0].map.outputs());
    return;
  }
  const PackedInput rounded(x.rounded());
  x.threads.run([&](int part) {  // each thread does its share of every map
    int64_t begin = 0, end = 0;
    for (const auto& [map, y] : products) {
      const int64_t groups = map.packed.groups(), parts = x.threads.size();
      const int64_t from = groups * part / parts, to = groups * (part + 1) / parts;
      begin = kTileRows * from, end = std::min(map.outputs(), kTileRows * to);
      multiply_part(map.packed, RowSet::range(0, groups), from, to, rounded, y);
      add_bias(map, x.batch, begin, end, y);
    }
    if (then && begin < end) then(begin, end);
  });
}

}  // namespace cajal::engine
