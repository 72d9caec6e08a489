#pragma once
#include <string>
#include <vector>

#include "cajal/core/options.h"
#include "cajal/core/torch.h"
#include "cajal/neurons/elementwise.h"

/// Activations whose shape is learned by more numbers than a law has parameters. All of them keep
/// the shape of x [...]. Source: the survey of dossier activation-survey and the papers it names.
namespace cajal {

enum class MeanOf { tensor, sample };

struct AbReluOptions {
  MeanOf mean = MeanOf::tensor;  // the survey's code averages over the batch too
};
/// Average-biased ReLU, max(0, x - mean x), the mean over the whole tensor or over each sample
/// (axis 0). Source: Dubey and Chakraborty 2021, arXiv 1804.02051.
class AbReluImpl : public torch::nn::Module {
 public:
  explicit AbReluImpl(const AbReluOptions& o) : options(o) {}
  torch::Tensor forward(const torch::Tensor& x) const;
  const AbReluOptions options;
};
TORCH_MODULE(AbRelu);

struct AplOptions {
  int64_t segments = 2;
};
/// Adaptive piecewise linear unit, max(0, x) + Σ_i slope_i max(0, -x + knot_i); starts as ReLU with
/// knots spread over [-1, 1]. Source: Agostinelli et al. 2015, arXiv 1412.6830.
class AplImpl : public torch::nn::Module {
 public:
  explicit AplImpl(const AplOptions& options);
  torch::Tensor forward(const torch::Tensor& x) const;
  const AplOptions options;
  torch::Tensor slope, knot;  // [segments]
};
TORCH_MODULE(Apl);

struct PolynomialOptions {
  int64_t degree = 3;
};
/// Self-learnable activation, Σ_k coefficient_k x^k for k = 0..degree; starts as the identity.
/// Powers leave the range of float for large |x|. Source: SLAF, Goyal et al. 2019, arXiv
/// 1906.09529.
class PolynomialActivationImpl : public torch::nn::Module {
 public:
  explicit PolynomialActivationImpl(const PolynomialOptions& options);
  torch::Tensor forward(const torch::Tensor& x) const;
  const PolynomialOptions options;
  torch::Tensor coefficient;  // [degree + 1]
};
TORCH_MODULE(PolynomialActivation);

enum class TableKind {
  bins,    // MTLU: slope and offset of its own in every bin, free to jump between bins
  linear,  // LuTU: values at knots, straight lines between them
  cubic,   // Catmull-Rom spline through values at knots
};

struct TableOptions {
  TableKind kind = TableKind::linear;
  int64_t pieces = 16;        // of equal width over [-range, range]
  double range = 4;           // beyond it the outermost piece goes on as a straight line
  std::string like = "relu";  // the law that it starts as
};
/// A table of a function over [-range, range]. Learns value [pieces + 1], or slope and offset
/// [pieces] for bins. Sources: MTLU, Gu et al. 2019, arXiv 1807.10935; LuTU, Wang, Liu, Foroosh
/// 2018; splines, Scardapane et al. 2019, arXiv 1605.05509.
class TableActivationImpl : public torch::nn::Module {
 public:
  explicit TableActivationImpl(const TableOptions& options);
  torch::Tensor forward(const torch::Tensor& x) const;
  const TableOptions options;
  torch::Tensor value, slope, offset;
};
TORCH_MODULE(TableActivation);

struct KernelActivationOptions {
  int64_t points = 20;  // of the dictionary, even over [-range, range]
  double range = 3;
  std::string like = "elu";  // the law that it starts as, by ridge regression
};
/// Kernel activation, Σ_i weight_i exp(-γ (x - point_i)²), γ = 1 / (6 Δ²) for points Δ apart.
/// Source: Scardapane et al. 2019, arXiv 1707.04035.
class KernelActivationImpl : public torch::nn::Module {
 public:
  explicit KernelActivationImpl(const KernelActivationOptions& options);
  torch::Tensor forward(const torch::Tensor& x) const;
  const KernelActivationOptions options;
  torch::Tensor weight;  // [points]
};
TORCH_MODULE(KernelActivation);

struct BlendOptions {
  std::vector<std::string> laws = {"relu", "tanh", "swish:fixed"};
};
/// Σ_i weight_i law_i(x), weights learned from 1 / n each. Source: Manessi and Rozza 2018, arXiv
/// 1801.09403; Sütfeld et al. 2020, arXiv 1806.10064.
class BlendedActivationImpl : public torch::nn::Module {
 public:
  explicit BlendedActivationImpl(const BlendOptions& options);
  torch::Tensor forward(const torch::Tensor& x) const;
  const BlendOptions options;
  torch::Tensor weight;  // [laws]

 private:
  std::vector<Elementwise> laws_;
};
TORCH_MODULE(BlendedActivation);

struct VariableActivationOptions {
  int64_t hidden = 3;
  std::string law = "relu";
};
/// Variable activation: one small network for all units, bias_out + Σ_j out_j law(in_j x + bias_j).
/// Source: VAF, Apicella, Isgrò, Prevete 2019, arXiv 1905.06076.
class VariableActivationImpl : public torch::nn::Module {
 public:
  explicit VariableActivationImpl(const VariableActivationOptions& options);
  torch::Tensor forward(const torch::Tensor& x) const;
  const VariableActivationOptions options;
  torch::Tensor in, bias, out, bias_out;  // [hidden] each, bias_out [1]
};
TORCH_MODULE(VariableActivation);

}  // namespace cajal

CAJAL_ENUM(cajal::MeanOf, {cajal::MeanOf::tensor, "tensor"}, {cajal::MeanOf::sample, "sample"})
CAJAL_ENUM(cajal::TableKind, {cajal::TableKind::bins, "bins"}, {cajal::TableKind::linear, "linear"},
           {cajal::TableKind::cubic, "cubic"})

namespace cajal {
CAJAL_OPTIONS(AbReluOptions, mean)
CAJAL_OPTIONS(AplOptions, segments)
CAJAL_OPTIONS(PolynomialOptions, degree)
CAJAL_OPTIONS(TableOptions, kind, pieces, range, like)
CAJAL_OPTIONS(KernelActivationOptions, points, range, like)
CAJAL_OPTIONS(BlendOptions, laws)
CAJAL_OPTIONS(VariableActivationOptions, hidden, law)
}  // namespace cajal
