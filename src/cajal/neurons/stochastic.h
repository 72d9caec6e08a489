#pragma once
#include "cajal/core/options.h"
#include "cajal/core/torch.h"

/// Activations that draw noise while training and are their mean (or their noiseless form) in
/// evaluation. All keep the shape of x [...]. Source: the survey of dossier activation-survey.
namespace cajal {

struct RandomSlopeOptions {
  double low = 0.125, high = 1.0 / 3;
};
/// Randomised leaky ReLU: x where x > 0, else slope x, slope ~ U(low, high) an element; the mean
/// slope in evaluation. Source: Xu et al. 2015, arXiv 1505.00853.
class RandomLeakyReluImpl : public torch::nn::Module {
 public:
  explicit RandomLeakyReluImpl(const RandomSlopeOptions& options);
  torch::Tensor forward(const torch::Tensor& x) const;
  const RandomSlopeOptions options;
};
TORCH_MODULE(RandomLeakyRelu);

struct RandomTranslationOptions {
  double deviation = 0.75;
};
/// max(0, x + n), n ~ N(0, deviation²) an element; ReLU in evaluation.
/// Source: Cao et al. 2018, randomly translational activation.
class RandomTranslationReluImpl : public torch::nn::Module {
 public:
  explicit RandomTranslationReluImpl(const RandomTranslationOptions& options);
  torch::Tensor forward(const torch::Tensor& x) const;
  const RandomTranslationOptions options;
};
TORCH_MODULE(RandomTranslationRelu);

struct ElasticReluOptions {
  double epsilon = 0.5;
};
/// Elastic ReLU: slope x where x > 0, else 0, slope ~ U(1 - epsilon, 1 + epsilon) an element; ReLU
/// in evaluation. Source: Jiang et al. 2018, EReLU.
class ElasticReluImpl : public torch::nn::Module {
 public:
  explicit ElasticReluImpl(const ElasticReluOptions& options);
  torch::Tensor forward(const torch::Tensor& x) const;
  const ElasticReluOptions options;
};
TORCH_MODULE(ElasticRelu);

struct ElasticEluOptions {
  double epsilon = 0.1;
  double a = 1, b = 1;  // where learning starts
};
/// Elastic ELU (our reading): slope x where x > 0, else a (e^(b x) - 1); slope ~ N(1, epsilon²)
/// held within [0, 2], one an element; 1 in evaluation. Source: Kim, Kim, Kim 2020, EELU.
class ElasticEluImpl : public torch::nn::Module {
 public:
  explicit ElasticEluImpl(const ElasticEluOptions& options);
  torch::Tensor forward(const torch::Tensor& x) const;
  const ElasticEluOptions options;
  torch::Tensor a, b;  // [1]
};
TORCH_MODULE(ElasticElu);

struct NoisyHardTanhOptions {
  double alpha = 1.15, scale = 1;
};
/// Noisy hard tanh: α h + (1 - α) x - sgn(x) sgn(1 - α) c (σ(p Δ) - 1/2)² |n|, h = clip(x, -1, 1),
/// Δ = h - x, n ~ N(0, 1); E|n| = √(2/π) in evaluation. p [1] is learned, c = scale.
/// Source: Gulcehre et al. 2016, arXiv 1603.00391.
class NoisyHardTanhImpl : public torch::nn::Module {
 public:
  explicit NoisyHardTanhImpl(const NoisyHardTanhOptions& options);
  torch::Tensor forward(const torch::Tensor& x) const;
  const NoisyHardTanhOptions options;
  torch::Tensor p;
};
TORCH_MODULE(NoisyHardTanh);

struct ProbabilisticOptions {
  double deviation = 0.1;  // where learning starts
};
/// Probabilistic activation, y ~ N(max(0, x), deviation²); deviation [1] is learned; the mean in
/// evaluation. Source: ProbAct, Shridhar et al. 2019, arXiv 1905.10761.
class ProbabilisticReluImpl : public torch::nn::Module {
 public:
  explicit ProbabilisticReluImpl(const ProbabilisticOptions& options);
  torch::Tensor forward(const torch::Tensor& x) const;
  const ProbabilisticOptions options;
  torch::Tensor deviation;
};
TORCH_MODULE(ProbabilisticRelu);

CAJAL_OPTIONS(RandomSlopeOptions, low, high)
CAJAL_OPTIONS(RandomTranslationOptions, deviation)
CAJAL_OPTIONS(ElasticReluOptions, epsilon)
CAJAL_OPTIONS(ElasticEluOptions, epsilon, a, b)
CAJAL_OPTIONS(NoisyHardTanhOptions, alpha, scale)
CAJAL_OPTIONS(ProbabilisticOptions, deviation)

}  // namespace cajal
