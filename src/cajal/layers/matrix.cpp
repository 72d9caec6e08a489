#include "cajal/layers/matrix.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <memory>
#include <mutex>

#include "cajal/core/error.h"
#include "cajal/kernels/rows.h"

namespace cajal {
namespace {

// Up to so many rows of x the stored bytes are read once and multiplied as they come; beyond, the
// work per byte pays for widening them first.
constexpr int64_t kFewRows = 8;

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

// Runs `body` with a pool of as many threads as libtorch uses; one caller at a time.
template <class Body>
void with_threads(Body body) {
  static std::mutex mutex;
  static std::unique_ptr<ThreadPool> pool;
  const std::lock_guard lock(mutex);
  if (!pool || pool->size() != at::get_num_threads())
    pool = std::make_unique<ThreadPool>(at::get_num_threads());
  body(*pool);
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
  const bool few = x.numel() <= kFewRows * inputs();
  const bool as_stored = weight_.scalar_type() == torch::kFloat && !few;
  if (gradient || as_stored || !x.is_cpu() || x.scalar_type() != torch::kFloat ||
      weight_.scalar_type() == torch::kDouble)
    return plain_apply(x, bias);
  auto sizes = x.sizes().vec();
  sizes.back() = outputs();
  const auto flat = x.reshape({-1, inputs()});
  auto y = (few ? row_apply(flat) : slab_apply(flat)).reshape(sizes);
  return bias.defined() ? y.add_(bias) : y;
}

torch::Tensor Matrix::plain_apply(const torch::Tensor& x, const torch::Tensor& bias) const {
  const auto same = [&](const torch::Tensor& t) {
    return !t.defined() || t.scalar_type() == x.scalar_type() ? t : t.to(x.scalar_type());
  };
  const auto w = same(weight_.is_floating_point() ? weight_ : decoded());
  return torch::linear(x, major_ == Major::output ? w : w.t(), same(bias));
}

// Straight from the stored bytes, each read once for all rows of x.
torch::Tensor Matrix::row_apply(const torch::Tensor& x) const {
  const auto from = x.contiguous();
  const auto stored = weight_.stride(-1) == 1 ? weight_ : weight_.contiguous();
  const auto matrix = row_matrix(format_, stored.data_ptr(), rows(), columns(), "matrix",
                                 stored.stride(0) * stored.element_size());
  const auto all = RowSet::range(0, rows());
  const bool sums = major_ == Major::input;
  auto y = sums ? torch::zeros({x.size(0), outputs()}, x.options())
                : torch::empty({x.size(0), outputs()}, x.options());
  with_threads([&](ThreadPool& threads) {
    (sums ? gather_axpy : static_cast<decltype(&gather_axpy)>(dot_rows))(
        matrix, all, from.data_ptr<float>(), x.size(0), y.data_ptr<float>(), threads);
  });
  return y;
}

// Widens some rows at a time: a slab of outputs, or a slab of inputs whose products add up.
torch::Tensor Matrix::slab_apply(const torch::Tensor& x) const {
  if (4 * rows() * columns() <= kSlabBytes) {  // one slab, whose product needs no copy
    const auto whole = decoded();
    return torch::mm(x, major_ == Major::output ? whole.t() : whole);
  }
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
