#include "cajal/layers/ffn/balancing.h"

#include <cmath>

#include "cajal/core/error.h"

namespace cajal::balancing {

torch::Tensor load_balance(const torch::Tensor& soft, const torch::Tensor& chosen) {
  require(soft.dim() == 2 && chosen.size(0) == soft.size(0),
          "load_balance: soft is {} and chosen {}, expected [batch, blocks] and [batch]",
          shape_text(soft.sizes()), shape_text(chosen.sizes()));
  const auto rows = static_cast<double>(soft.size(0));
  if (rows == 0) return soft.sum();
  const auto counts = count(chosen, soft.size(1)).to(soft.scalar_type());
  return (counts * soft.sum(0)).sum() * (static_cast<double>(soft.size(1)) / (rows * rows));
}

torch::Tensor squared_variation(const torch::Tensor& load) {
  if (load.numel() < 2) return load.sum() * 0;
  return load.var(/*unbiased=*/false) / (load.mean().square() + 1e-10);
}

torch::Tensor count(const torch::Tensor& chosen, int64_t blocks) {
  return torch::bincount(chosen.flatten(), {}, blocks);
}

Use use_of(const torch::Tensor& counts) {
  Use use;
  const auto n = counts.numel();
  const auto c = counts.to(torch::kDouble);
  const double total = c.sum().item<double>();
  if (n == 0 || total == 0) return use;
  const double mean = total / static_cast<double>(n);
  const auto p = c / total;
  use.used = c.gt(0).to(torch::kDouble).mean().item<double>();
  const double nats = -torch::where(p.gt(0), p * p.clamp_min(1e-300).log(), torch::zeros_like(p))
                           .sum()
                           .item<double>();
  use.entropy = n == 1 ? 1 : nats / std::log(static_cast<double>(n));
  use.peak = c.max().item<double>() / mean;
  use.variation = c.std(/*unbiased=*/false).item<double>() / mean;
  return use;
}

}  // namespace cajal::balancing
