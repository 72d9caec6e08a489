#pragma once
#include "cajal/core/options.h"
#include "cajal/core/torch.h"

namespace cajal {

enum class GoodnessForm {
  automatic,  // whichever costs less
  direct,     // the activations, then their squares
  moments,    // the second moments of x first: no activation of a class is ever made; kernel 1
};

struct GoodnessHeadOptions {
  int64_t channels = 0, classes = 0;
  int64_t kernel = 1;
  GoodnessForm form = GoodnessForm::automatic;
};
CAJAL_OPTIONS(GoodnessHeadOptions, channels, classes, kernel, form)

/// How glad a block is of every class: g[k] = mean over positions of (w_k * x + b_k)², one pass for
/// all classes. With kernel 1 this equals w̃_kᵀ M w̃_k for the second moments M of [x, 1], whose
/// memory does not grow with classes x positions. Padded by kernel / 2.
/// Shapes: x [batch, channels, height, width] -> y [batch, classes]; weight [classes, channels,
/// kernel, kernel], bias [classes]. Throws Error for moments with a larger kernel.
/// Source: Krutsylo 2025, arXiv 2501.03176; dossier scalable-ff.
class GoodnessHeadImpl : public torch::nn::Module {
 public:
  explicit GoodnessHeadImpl(const GoodnessHeadOptions& options);
  torch::Tensor forward(const torch::Tensor& x) const;

  const GoodnessHeadOptions options;
  torch::Tensor weight, bias;

 private:
  torch::Tensor by_moments(const torch::Tensor& x) const;
};
TORCH_MODULE(GoodnessHead);

}  // namespace cajal

CAJAL_ENUM(cajal::GoodnessForm, {cajal::GoodnessForm::automatic, "automatic"},
           {cajal::GoodnessForm::direct, "direct"}, {cajal::GoodnessForm::moments, "moments"})
