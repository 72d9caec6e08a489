#include "cajal/layers/matrix.h"

#include <ATen/Parallel.h>

#include <algorithm>

#include "cajal/core/error.h"

namespace cajal {
namespace {

// Fp32 scratch of one slab: small enough to stay in a second-level cache between its widening and
// its use, large enough for the matrix product to run at speed.
constexpr int64_t kSlabBytes = 4 << 20;

Format format_of(torch::ScalarType type) {
  switch (type) {
    case torch::kFloat:
    case torch::kDouble:
      return Format::f32;
    case torch::kHalf:
      return Format::f16;
    case torch::kBFloat16:
      return Format::bf16;
    default:
      fail("matrix: weights are {}, expected a floating type", c10::toString(type));
  }
}

void decode_rows(Format format, const torch::Tensor& bytes, int64_t begin, int64_t end,
                 torch::Tensor& out) {
  const auto stride = row_bytes(format, out.size(1));
  const auto* from = static_cast<const std::byte*>(bytes.data_ptr());
  auto* to = out.data_ptr<float>();
  const int64_t columns = out.size(1);
  at::parallel_for(begin, end, 16, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row)
      decode_row(format, from + row * stride, columns, to + (row - begin) * columns);
  });
}

}  // namespace

Matrix Matrix::dense(torch::Tensor weight, Major major) {
  require(weight.dim() == 2, "matrix: weight is {}, expected two axes", shape_text(weight.sizes()));
  Matrix m;
  m.format_ = format_of(weight.scalar_type());
  m.columns_ = weight.size(1);
  m.weight_ = std::move(weight);
  m.major_ = major;
  return m;
}

Matrix Matrix::packed(Format format, torch::Tensor bytes, int64_t columns, Major major) {
  require_row(format, columns, "matrix");
  require(bytes.dim() == 2 && bytes.scalar_type() == torch::kByte && bytes.is_contiguous() &&
              bytes.size(1) == row_bytes(format, columns),
          "matrix: {} rows of {} columns are {}, expected U8 [rows, {}]", to_name(format), columns,
          shape_text(bytes.sizes()), row_bytes(format, columns));
  Matrix m;
  m.weight_ = std::move(bytes);
  m.format_ = format;
  m.columns_ = columns;
  m.major_ = major;
  return m;
}

Matrix Matrix::rows(int64_t begin, int64_t end) const {
  Matrix m = *this;
  m.weight_ = weight_.slice(0, begin, end);
  return m;
}

torch::Tensor Matrix::decoded() const {
  if (weight_.is_floating_point()) return weight_.to(torch::kFloat);
  const auto bytes = weight_.cpu();
  auto out = torch::empty({rows(), columns()}, torch::kFloat);
  decode_rows(format_, bytes, 0, rows(), out);
  return out.to(weight_.device());
}

torch::Tensor Matrix::lookup(const torch::Tensor& ids) const {
  if (weight_.is_floating_point()) {
    const auto rows = weight_.index_select(0, ids.reshape(-1));
    auto sizes = ids.sizes().vec();
    sizes.push_back(columns());
    return (rows.is_floating_point() && rows.scalar_type() == torch::kDouble
                ? rows
                : rows.to(torch::kFloat))
        .reshape(sizes);
  }
  const auto bytes = weight_.index_select(0, ids.reshape(-1)).cpu();
  auto out = torch::empty({bytes.size(0), columns()}, torch::kFloat);
  decode_rows(format_, bytes, 0, bytes.size(0), out);
  auto sizes = ids.sizes().vec();
  sizes.push_back(columns());
  return out.to(weight_.device()).reshape(sizes);
}

torch::Tensor Matrix::apply(const torch::Tensor& x, const torch::Tensor& bias) const {
  require(x.size(-1) == inputs(), "matrix: last axis of x is {}, expected {} inputs", x.size(-1),
          inputs());
  const bool gradient =
      torch::GradMode::is_enabled() && (x.requires_grad() || weight_.requires_grad());
  const bool dense_here = weight_.is_floating_point() && weight_.scalar_type() == x.scalar_type();
  if (gradient || dense_here || !x.is_cpu() || x.scalar_type() != torch::kFloat)
    return plain_apply(x, bias);
  auto sizes = x.sizes().vec();
  sizes.back() = outputs();
  auto y = slab_apply(x.reshape({-1, inputs()})).reshape(sizes);
  return bias.defined() ? y.add_(bias) : y;
}

torch::Tensor Matrix::plain_apply(const torch::Tensor& x, const torch::Tensor& bias) const {
  const auto same = [&](const torch::Tensor& t) {
    return !t.defined() || t.scalar_type() == x.scalar_type() ? t : t.to(x.scalar_type());
  };
  const auto w = same(weight_.is_floating_point() ? weight_ : decoded());
  return torch::linear(x, major_ == Major::output ? w : w.t(), same(bias));
}

// Widens some rows at a time: a slab of outputs, or a slab of inputs whose products add up.
torch::Tensor Matrix::slab_apply(const torch::Tensor& x) const {
  auto y = major_ == Major::output ? torch::empty({x.size(0), outputs()}, x.options())
                                   : torch::zeros({x.size(0), outputs()}, x.options());
  const int64_t step = std::max<int64_t>(16, kSlabBytes / (4 * columns()));
  auto scratch = torch::empty({std::min(step, rows()), columns()}, torch::kFloat);
  for (int64_t begin = 0; begin < rows(); begin += step) {
    const int64_t end = std::min(rows(), begin + step);
    auto slab = scratch.narrow(0, 0, end - begin);
    if (weight_.is_floating_point()) {
      slab.copy_(weight_.slice(0, begin, end));
    } else {
      decode_rows(format_, weight_, begin, end, slab);
    }
    if (major_ == Major::output) {
      y.slice(1, begin, end).copy_(torch::mm(x, slab.t()));
    } else {
      y.addmm_(x.slice(1, begin, end), slab);
    }
  }
  return y;
}

}  // namespace cajal
