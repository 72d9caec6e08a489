#pragma once
#include <functional>
#include <string>
#include <vector>

#include "cajal/core/torch.h"

/// Small models of curves [count, points, channels], functional networks and their rivals, that
/// answer with scores [count, outputs]. Source: dossier functional-networks.
namespace cajal {

struct CurveModel {
  std::function<torch::Tensor(const torch::Tensor& x)> scores;
  std::vector<torch::Tensor> parameters;                          // none where nothing is learned
  std::function<torch::Tensor(const torch::Tensor& x)> at_twice;  // for twice the sampling rate
  std::function<double()> roughness;  // of the first layer's weight functions

  int64_t weights() const;  // numbers in `parameters`
};

/// Curves that a model may look at before it learns: components and neighbours are taken from them.
struct CurveSet {
  torch::Tensor x;  // [count, points, channels]
  torch::Tensor y;  // classes i64 [count], or numbers [count, 1]

  CurveSet rows(const torch::Tensor& which) const;  // by index
};

/// Two functional convolutions (20 and 5 neurons, 7 Legendre functions over `kernel` points, ELU,
/// as integrals) and a shift invariant head of one constant function.
CurveModel functional_conv_net(int64_t channels, int64_t outputs, int64_t kernel);

/// The same convolutions, pooled, under a dense network of 16 ReLU units.
CurveModel functional_mixed_net(int64_t channels, int64_t outputs, int64_t kernel);

/// The same network as functional_conv_net with free kernels: what smoothness buys.
CurveModel plain_conv_net(int64_t channels, int64_t outputs, int64_t kernel);

/// Two functional dense layers, 5 neurons of 6 Legendre functions with `law`, then pooled.
CurveModel functional_dense_net(int64_t points, int64_t channels, int64_t outputs,
                                const std::string& law);

/// Functional linear model: inner products with smooth functions on `functions` cubic B-splines.
CurveModel functional_linear_model(int64_t points, int64_t channels, int64_t outputs,
                                   int64_t functions);

/// Linear in the scores on the first `count` principal components of the training curves.
CurveModel principal_component_model(const CurveSet& train, int64_t count, int64_t outputs);

/// One hidden layer of 48 ReLU units on the raw samples.
CurveModel sample_mlp(int64_t inputs, int64_t outputs);

/// Votes of the k nearest training curves in L2 distance; classes only.
CurveModel nearest_curves(const CurveSet& train, int64_t classes, int64_t k = 5);

}  // namespace cajal
