#include "cajal/math/similarity.h"

#include "cajal/core/error.h"

namespace cajal::math {
namespace {

void check(const torch::Tensor& x, const torch::Tensor& y) {
  require(x.dim() == 2 && y.dim() == 2 && x.size(0) == y.size(0) && x.size(0) > 1,
          "similarity: x is {} and y {}, expected [rows, width] with the same rows",
          shape_text(x.sizes()), shape_text(y.sizes()));
}

torch::Tensor centred(const torch::Tensor& x) {
  const auto wide = x.to(torch::kDouble);
  return wide - wide.mean(0, /*keepdim=*/true);
}

torch::Tensor neighbours(const torch::Tensor& x, int64_t k) {
  const auto unit = x / x.norm(2, 1, /*keepdim=*/true).clamp_min(1e-12);
  auto near = unit.mm(unit.t());
  near.fill_diagonal_(-2);
  return torch::zeros_like(near).scatter(1, std::get<1>(near.topk(k, 1)), 1.0);
}

}  // namespace

double linear_cka(const torch::Tensor& x, const torch::Tensor& y) {
  check(x, y);
  const auto a = centred(x), b = centred(y);
  const auto norm = [](const torch::Tensor& m) { return m.norm().item<double>(); };
  const double cross = norm(a.t().mm(b));
  return cross * cross / (norm(a.t().mm(a)) * norm(b.t().mm(b)));
}

double neighbourhood_similarity(const torch::Tensor& x, const torch::Tensor& y, int64_t k) {
  check(x, y);
  require(k > 0 && k < x.size(0), "similarity: {} neighbours among {} rows", k, x.size(0));
  const auto a = neighbours(x.to(torch::kFloat), k), b = neighbours(y.to(torch::kFloat), k);
  const auto both = (a * b).sum(1);
  return (both / (2.0 * static_cast<double>(k) - both)).mean().item<double>();
}

}  // namespace cajal::math
