#pragma once
#include <optional>
#include <string>
#include <vector>

#include "cajal/core/options.h"
#include "cajal/core/torch.h"
#include "cajal/layers/functional/basis.h"

/// Neurons whose inputs, weights and outputs are curves; a weight function is Σ_i φ_i(t) A_i with
/// learned A. Curves are [batch, points, channels]. Parameters: coefficients [functions, channels,
/// neurons] drawn from N(0, 0.05²), and bias [bias_functions, neurons], zeros. `law` is an
/// activation
/// ("elu", "prelu:slope=0.1"), "softmax" over the neurons, or "identity".
/// Source: Heinrichs, Heim, Weber 2023, PMLR 202; dossier functional-networks.
namespace cajal {

struct FunctionalDenseOptions {
  int64_t points = 0;    // of the curves
  int64_t channels = 1;  // curves a sample
  int64_t neurons = 0;
  Basis basis = Basis::fourier;
  int64_t functions = 1;
  std::string law = "identity";
  bool pooling = false;            // mean over the points, before the law
  int64_t bias_functions = 0;      // of the same basis; 0: no bias
  std::vector<double> times = {};  // pooling over these places in [0, 1] by the trapezoid rule
};

/// y_k(t) = law(b_k(t) + Σ_c w_ck(t) x_c(t)), or with pooling the mean over t within law: the inner
/// product of curve and weight. With `times` the curves are sampled at those places.
/// Shapes: x [batch, points, channels] -> y [batch, points, neurons], or [batch, neurons].
class FunctionalDenseImpl : public torch::nn::Module {
 public:
  explicit FunctionalDenseImpl(const FunctionalDenseOptions& options);
  torch::Tensor forward(const torch::Tensor& x) const;
  torch::Tensor weights() const { return weights(options.points); }
  torch::Tensor weights(int64_t points) const;  // [points, channels, neurons]

  const FunctionalDenseOptions options;
  torch::Tensor coefficients, bias;
};
TORCH_MODULE(FunctionalDense);

struct FunctionalConvolutionOptions {
  int64_t points = 0;  // of the weight functions
  int64_t channels = 1;
  int64_t neurons = 0;
  Basis basis = Basis::legendre;
  int64_t functions = 1;
  std::string law = "identity";
  bool pooling = false;  // mean over t, before the law (after it with pool_after)
  bool pool_after = false;
  bool same = false;           // as many points out as in, zeros around; else only where it fits
  bool integral = false;       // times 1 / points: the sum becomes an integral
  int64_t bias_functions = 0;  // 1: a constant a neuron
};

/// y_k(t) = law(b_k + Σ_c Σ_u w_ck(u) x_c(t + u)): shift equivariant, smooth, few coefficients.
/// `resampled` gives the weights for curves sampled at another rate.
/// Shapes: x [batch, time, channels] -> y [batch, time_out, neurons], or [batch, neurons].
class FunctionalConvolutionImpl : public torch::nn::Module {
 public:
  explicit FunctionalConvolutionImpl(const FunctionalConvolutionOptions& options);
  torch::Tensor forward(const torch::Tensor& x) const { return at_rate(x, 1); }
  /// The same functions on curves sampled `rate` times as densely, without retraining; right with
  /// `integral`.
  torch::Tensor at_rate(const torch::Tensor& x, double rate) const;
  torch::Tensor weights(double rate = 1) const;  // [points, channels, neurons]

  const FunctionalConvolutionOptions options;
  torch::Tensor coefficients, bias;
};
TORCH_MODULE(FunctionalConvolution);

struct FunctionalKernelOptions {
  int64_t points = 0, points_out = 0;
  int64_t channels = 1, neurons = 0;
  Basis basis = Basis::legendre;
  int64_t functions = 1, functions_out = 1;
  std::string law = "identity";
  int64_t bias_functions = 0;
};

/// y_k(s) = law(b_k(s) + Σ_c mean_t w_ck(s, t) x_c(t)): the general functional dense layer, w on
/// the product of two bases; coefficients [functions_out, functions, channels, neurons]. Shapes: x
/// [batch, points, channels] -> y [batch, points_out, neurons].
class FunctionalKernelImpl : public torch::nn::Module {
 public:
  explicit FunctionalKernelImpl(const FunctionalKernelOptions& options);
  torch::Tensor forward(const torch::Tensor& x) const;

  const FunctionalKernelOptions options;
  torch::Tensor coefficients, bias;
};
TORCH_MODULE(FunctionalKernel);

CAJAL_OPTIONS(FunctionalDenseOptions, points, channels, neurons, basis, functions, law, pooling,
              bias_functions, times)
CAJAL_OPTIONS(FunctionalConvolutionOptions, points, channels, neurons, basis, functions, law,
              pooling, pool_after, same, integral, bias_functions)
CAJAL_OPTIONS(FunctionalKernelOptions, points, points_out, channels, neurons, basis, functions,
              functions_out, law, bias_functions)

/// Each curve of [batch, points, channels] less its mean over the points, over its deviation
/// (variance + 1e-10).
torch::Tensor normalise_curves(const torch::Tensor& x);

/// λ integral of (w'')² summed over the weight functions of these coefficients [functions, ...].
torch::Tensor roughness_penalty(Basis basis, const torch::Tensor& coefficients, double lambda);

}  // namespace cajal
