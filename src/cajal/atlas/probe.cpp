#include "cajal/atlas/probe.h"

#include <torch/optim/lbfgs.h>

#include "cajal/core/error.h"

namespace cajal::atlas {
namespace {

void check_rows(const torch::Tensor& x, const torch::Tensor& y) {
  require(x.dim() == 2 && x.size(0) > 0 && y.size(0) == x.size(0),
          "probe: features are {} and targets {}, expected [rows, features] and as many rows",
          shape_text(x.sizes()), shape_text(y.sizes()));
}

}  // namespace

torch::Tensor LinearProbe::operator()(const torch::Tensor& x) const {
  return torch::matmul(x.to(weight.scalar_type()), weight.t()) + bias;
}

double LinearProbe::accuracy(const torch::Tensor& x, const torch::Tensor& labels) const {
  return (*this)(x).argmax(-1).eq(labels).to(torch::kDouble).mean().item<double>();
}

LinearProbe fit_classes(const torch::Tensor& x, const torch::Tensor& labels, int64_t classes,
                        const ProbeOptions& options) {
  check_rows(x, labels);
  require(labels.min().item<int64_t>() >= 0 && labels.max().item<int64_t>() < classes,
          "probe: labels are {} to {}, expected 0 to {}", labels.min().item<int64_t>(),
          labels.max().item<int64_t>(), classes - 1);
  const auto features = x.detach().to(torch::kDouble);
  auto mean = torch::zeros({x.size(1)}, torch::kDouble), scale = torch::ones_like(mean);
  if (options.standardise) {
    mean = features.mean(0);
    scale = features.std(0, /*unbiased=*/false).clamp_min(1e-12);
  }
  const auto inputs = (features - mean) / scale;
  auto weight = torch::zeros({classes, x.size(1)}, torch::kDouble).requires_grad_();
  auto bias = torch::zeros({classes}, torch::kDouble).requires_grad_();
  const torch::AutoGradMode gradient_on(true);
  torch::optim::LBFGS optimizer({weight, bias}, torch::optim::LBFGSOptions(1)
                                                    .max_iter(options.iterations)
                                                    .tolerance_grad(1e-9)
                                                    .line_search_fn("strong_wolfe"));
  optimizer.step([&] {
    optimizer.zero_grad();
    const auto logits = torch::matmul(inputs, weight.t()) + bias;
    const auto loss = torch::nll_loss(torch::log_softmax(logits, -1), labels) +
                      options.l2 / 2 * weight.square().sum();
    loss.backward();
    return loss;
  });
  const auto raw = (weight / scale).detach();
  return {raw, (bias - torch::mv(raw, mean)).detach()};
}

LinearProbe fit_values(const torch::Tensor& x, const torch::Tensor& y, double l2) {
  check_rows(x, y);
  require(y.dim() == 2, "probe: targets are {}, expected [rows, outputs]", shape_text(y.sizes()));
  const auto features = x.detach().to(torch::kDouble), targets = y.detach().to(torch::kDouble);
  const auto mean = features.mean(0), target_mean = targets.mean(0);
  const auto a = features - mean;
  auto gram = torch::matmul(a.t(), a);
  const double ridge = l2 * gram.diagonal().mean().item<double>();
  gram.diagonal().add_(std::max(ridge, 1e-300));
  const auto weight = torch::linalg_solve(gram, torch::matmul(a.t(), targets - target_mean)).t();
  return {weight, target_mean - torch::mv(weight, mean)};
}

}  // namespace cajal::atlas
