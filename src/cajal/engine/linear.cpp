#include "cajal/engine/linear.h"

namespace cajal::engine {
namespace {

// Up to so many vectors the stored rows are multiplied as they come; beyond, decoding a panel of
// rows pays.
constexpr int64_t kFewVectors = 8;

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
  const auto all = RowSet::range(0, weight.rows);
  const bool rounds = x.arithmetic == Arithmetic::rounded && weight.format != Format::f32;
  if (x.batch > kFewVectors) {
    multiply_many(weight, all, x.many(rounds ? Precision::bf16 : Precision::f32), y, x.threads);
  } else if (rounds && is_quantised(weight.format)) {
    dot_rows(weight, all, x.rounded(), y, x.threads);
  } else {
    dot_rows(weight, all, x.values, x.batch, y, x.threads);
  }
  if (bias.empty()) return;
  for (int64_t b = 0; b < x.batch; ++b)
    for (int64_t i = 0; i < weight.rows; ++i)
      y[b * weight.rows + i] += bias[static_cast<size_t>(i)];
}

}  // namespace cajal::engine
