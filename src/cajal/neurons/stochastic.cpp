#include "cajal/neurons/stochastic.h"

#include <cmath>

namespace cajal {

RandomLeakyReluImpl::RandomLeakyReluImpl(const RandomSlopeOptions& o) : options(o) {
  require(o.low >= 0 && o.low <= o.high, "rrelu: low {} and high {} are no range from 0", o.low,
          o.high);
}
torch::Tensor RandomLeakyReluImpl::forward(const torch::Tensor& x) const {
  if (!is_training()) return torch::leaky_relu(x, (options.low + options.high) / 2);
  const auto slope = torch::empty_like(x.detach()).uniform_(options.low, options.high);
  return torch::where(x > 0, x, slope * x);
}

RandomTranslationReluImpl::RandomTranslationReluImpl(const RandomTranslationOptions& o)
    : options(o) {
  require(o.deviation >= 0, "random_translation_relu: deviation is {}, expected >= 0", o.deviation);
}
torch::Tensor RandomTranslationReluImpl::forward(const torch::Tensor& x) const {
  return torch::relu(is_training() ? x + options.deviation * torch::randn_like(x) : x);
}

ElasticReluImpl::ElasticReluImpl(const ElasticReluOptions& o) : options(o) {
  require(o.epsilon >= 0 && o.epsilon <= 1, "erelu: epsilon is {}, expected 0 to 1", o.epsilon);
}
torch::Tensor ElasticReluImpl::forward(const torch::Tensor& x) const {
  if (!is_training()) return torch::relu(x);
  const double e = options.epsilon;
  return torch::relu(x) * torch::empty_like(x.detach()).uniform_(1 - e, 1 + e);
}

ElasticEluImpl::ElasticEluImpl(const ElasticEluOptions& o) : options(o) {
  require(o.epsilon >= 0, "eelu: epsilon is {}, expected >= 0", o.epsilon);
  a = register_parameter("a", torch::full({1}, o.a));
  b = register_parameter("b", torch::full({1}, o.b));
}
torch::Tensor ElasticEluImpl::forward(const torch::Tensor& x) const {
  const auto left = a * torch::expm1(b * x.clamp_max(0));
  if (!is_training()) return torch::where(x > 0, x, left);
  const auto slope = (1 + options.epsilon * torch::randn_like(x)).clamp(0, 2);
  return torch::where(x > 0, slope * x, left);
}

NoisyHardTanhImpl::NoisyHardTanhImpl(const NoisyHardTanhOptions& o) : options(o) {
  p = register_parameter("p", torch::ones({1}));
}
torch::Tensor NoisyHardTanhImpl::forward(const torch::Tensor& x) const {
  const auto h = x.clamp(-1, 1);
  const auto spread = options.scale * (torch::sigmoid(p * (h - x)) - 0.5).square();
  const auto noise = is_training() ? torch::randn_like(x).abs()
                                   : torch::full_like(x.detach(), std::sqrt(2 / M_PI));
  const double sign = options.alpha < 1 ? 1 : options.alpha > 1 ? -1 : 0;
  return options.alpha * h + (1 - options.alpha) * x - sign * torch::sign(x) * spread * noise;
}

ProbabilisticReluImpl::ProbabilisticReluImpl(const ProbabilisticOptions& o) : options(o) {
  deviation = register_parameter("deviation", torch::full({1}, o.deviation));
}
torch::Tensor ProbabilisticReluImpl::forward(const torch::Tensor& x) const {
  return is_training() ? torch::relu(x) + deviation * torch::randn_like(x) : torch::relu(x);
}

}  // namespace cajal
