#include "cajal/models/small/curve_models.h"

#include <cmath>

#include "cajal/layers/functional/functional.h"

namespace cajal {
namespace {
using torch::Tensor;

template <class... Layers>
std::vector<Tensor> all_of(const Layers&... layers) {
  std::vector<Tensor> out;
  for (const auto& own : {layers->parameters()...}) out.insert(out.end(), own.begin(), own.end());
  return out;
}

/// A leaf of normal numbers with variance 1 / fan_in.
Tensor normal_leaf(std::vector<int64_t> shape, double fan_in) {
  return (torch::randn(shape) / std::sqrt(fan_in)).requires_grad_(true);
}

Tensor zero_leaf(int64_t count) { return torch::zeros({count}).requires_grad_(true); }

/// Two functional convolutions. The integrals make small numbers: coefficients start so that they
/// are as large as the sums of the published code.
struct TwoConvolutions {
  FunctionalConvolution first, second;

  TwoConvolutions(int64_t channels, int64_t kernel)
      : first(FunctionalConvolutionOptions{.points = kernel,
                                           .channels = channels,
                                           .neurons = 20,
                                           .functions = 7,
                                           .law = "elu",
                                           .integral = true}),
        second(FunctionalConvolutionOptions{.points = kernel,
                                            .channels = 20,
                                            .neurons = 5,
                                            .functions = 7,
                                            .law = "elu",
                                            .integral = true}) {
    const torch::NoGradGuard no_grad;
    first->coefficients.mul_(static_cast<double>(kernel));
    second->coefficients.mul_(static_cast<double>(kernel));
  }

  Tensor at_rate(const Tensor& x, double rate) const {
    return second->at_rate(first->at_rate(normalise_curves(x), rate), rate);
  }
};

}  // namespace

int64_t CurveModel::weights() const {
  int64_t count = 0;
  for (const auto& parameter : parameters) count += parameter.numel();
  return count;
}

CurveSet CurveSet::rows(const Tensor& which) const {
  return {x.index_select(0, which), y.index_select(0, which)};
}

CurveModel functional_conv_net(int64_t channels, int64_t outputs, int64_t kernel) {
  const TwoConvolutions below(channels, kernel);
  FunctionalConvolution head(FunctionalConvolutionOptions{.points = 1,
                                                          .channels = 5,
                                                          .neurons = outputs,
                                                          .basis = Basis::fourier,
                                                          .functions = 1,
                                                          .pooling = true,
                                                          .bias_functions = 1});
  {
    const torch::NoGradGuard no_grad;
    head->coefficients.mul_(20);
  }
  const auto at = [=](const Tensor& x, double rate) {
    return head->at_rate(below.at_rate(x, rate), rate);
  };
  return {[at](const Tensor& x) { return at(x, 1); }, all_of(below.first, below.second, head),
          [at](const Tensor& x) { return at(x, 2); },
          [first = below.first] { return roughness(first->weights()); }};
}

CurveModel functional_mixed_net(int64_t channels, int64_t outputs, int64_t kernel) {
  constexpr int64_t kHidden = 16;
  const TwoConvolutions below(channels, kernel);
  const auto a = normal_leaf({kHidden, 5}, 2.5), b = normal_leaf({outputs, kHidden}, kHidden),
             c = zero_leaf(kHidden), d = zero_leaf(outputs);
  const auto at = [=](const Tensor& x, double rate) {
    const auto pooled = below.at_rate(x, rate).mean(1);
    return torch::linear(torch::relu(torch::linear(pooled, a, c)), b, d);
  };
  auto parameters = all_of(below.first, below.second);
  parameters.insert(parameters.end(), {a, b, c, d});
  return {[at](const Tensor& x) { return at(x, 1); }, parameters,
          [at](const Tensor& x) { return at(x, 2); },
          [first = below.first] { return roughness(first->weights()); }};
}

CurveModel plain_conv_net(int64_t channels, int64_t outputs, int64_t kernel) {
  const auto first = normal_leaf({20, channels, kernel}, static_cast<double>(channels * kernel)),
             second = normal_leaf({5, 20, kernel}, static_cast<double>(20 * kernel)),
             head = normal_leaf({outputs, 5}, 5), bias = zero_leaf(outputs);
  return {[=](const Tensor& x) {
            auto y = torch::elu(torch::conv1d(normalise_curves(x).transpose(1, 2), first));
            return torch::linear(torch::elu(torch::conv1d(y, second)).mean(2), head, bias);
          },
          {first, second, head, bias},
          nullptr,
          [first] {
            return roughness(first.permute({2, 1, 0}));
          }};
}

CurveModel functional_dense_net(int64_t points, int64_t channels, int64_t outputs,
                                const std::string& law) {
  FunctionalDense first(FunctionalDenseOptions{.points = points,
                                               .channels = channels,
                                               .neurons = 5,
                                               .basis = Basis::legendre,
                                               .functions = 6,
                                               .law = law});
  FunctionalDense second(FunctionalDenseOptions{
      .points = points, .channels = 5, .neurons = outputs, .functions = 3, .pooling = true});
  return {[=](const Tensor& x) { return second->forward(first->forward(normalise_curves(x))); },
          all_of(first, second), nullptr, [first] { return roughness(first->weights()); }};
}

CurveModel functional_linear_model(int64_t points, int64_t channels, int64_t outputs,
                                   int64_t functions) {
  FunctionalDense layer(FunctionalDenseOptions{.points = points,
                                               .channels = channels,
                                               .neurons = outputs,
                                               .basis = Basis::bspline,
                                               .functions = functions,
                                               .pooling = true});
  const auto bias = zero_leaf(outputs);
  auto parameters = layer->parameters();
  parameters.push_back(bias);
  return {[=](const Tensor& x) { return layer->forward(x) + bias; }, parameters, nullptr,
          [layer] { return roughness(layer->weights()); }};
}

CurveModel principal_component_model(const CurveSet& train, int64_t count, int64_t outputs) {
  const auto flat = train.x.flatten(1);
  const auto mean = flat.mean(0);
  const auto axes = std::get<1>(torch::linalg_eigh(torch::matmul((flat - mean).t(), flat - mean)))
                        .slice(1, -count);
  const auto scale = torch::matmul(flat - mean, axes).std(0);
  const auto weight = torch::zeros({outputs, axes.size(1)}).requires_grad_(true),
             bias = zero_leaf(outputs);
  return {[=](const Tensor& x) {
            return torch::linear(torch::matmul(x.flatten(1) - mean, axes) / scale, weight, bias);
          },
          {weight, bias},
          nullptr,
          nullptr};
}

CurveModel sample_mlp(int64_t inputs, int64_t outputs) {
  const auto a = normal_leaf({48, inputs}, static_cast<double>(inputs) / 2),
             b = normal_leaf({outputs, 48}, 24), c = zero_leaf(48), d = zero_leaf(outputs);
  return {[=](const Tensor& x) {
            return torch::linear(torch::relu(torch::linear(x.flatten(1), a, c)), b, d);
          },
          {a, b, c, d},
          nullptr,
          nullptr};
}

CurveModel nearest_curves(const CurveSet& train, int64_t classes, int64_t k) {
  return {[=](const Tensor& x) {
            const auto near = std::get<1>(
                torch::topk(torch::cdist(x.flatten(1), train.x.flatten(1)), k, 1, false));
            return torch::one_hot(train.y.index_select(0, near.flatten()).reshape(near.sizes()),
                                  classes)
                .sum(1)
                .to(torch::kFloat);
          },
          {},
          nullptr,
          nullptr};
}

}  // namespace cajal
