#include "cajal/layers/ffn/shared.h"

#include <algorithm>
#include <cmath>

#include "cajal/layers/layer.h"

namespace cajal {

FfnBankImpl::FfnBankImpl(int64_t width, int64_t neurons, int64_t shared_neurons, Activation law)
    : width_(width),
      neurons_(neurons),
      shared_neurons_(shared_neurons > 0 ? shared_neurons : neurons),
      law_(law) {}

std::shared_ptr<DenseFeedForwardImpl> FfnBankImpl::find(const std::string& entry,
                                                        const std::string& place) {
  if (entry == "none") return nullptr;
  const bool shared = entry.starts_with("shared:") && entry.size() > 7;
  require(shared || entry == "own", "plan: '{}' is not one of own, none, shared:GROUP", entry);
  const auto group = shared ? entry.substr(7) : place;
  require(group.find('.') == std::string::npos, "plan: group '{}' must not hold a dot", group);
  const auto key = (shared ? "shared_" : "own_") + group;
  auto& network = made_[key];
  if (!network)
    network = register_module(
        key, std::make_shared<DenseFeedForwardImpl>(DenseFeedForwardOptions{
                 .width = width_, .neurons = shared ? shared_neurons_ : neurons_, .law = law_}));
  return network;
}

SharedFeedForwardImpl::SharedFeedForwardImpl(const SharedFeedForwardOptions& o) : options(o) {
  require(o.width > 0 && o.neurons > 0 && o.shared_neurons >= 0,
          "shared_feed_forward: width and neurons must be positive, got {} and {}", o.width,
          o.neurons);
  require(!o.plan.empty(),
          "shared_feed_forward: plan is empty, expected own, none or shared:GROUP "
          "for each layer");
  const auto bank = register_module(
      "bank", std::make_shared<FfnBankImpl>(o.width, o.neurons, o.shared_neurons, o.law));
  std::map<std::string, Step> of_group;
  for (size_t layer = 0; layer < o.plan.size(); ++layer) {
    const auto& entry = o.plan[layer];
    const auto network = bank->find(entry, std::to_string(layer));
    if (!network) continue;
    auto& known = of_group[entry];
    if (o.share_norm && entry != "own" && known.network) {
      steps_.push_back(known);
      continue;
    }
    const auto norm =
        register_module(fmt::format("norm_{}", layer), std::make_shared<torch::nn::Module>("norm"));
    known = {norm->register_parameter("weight", torch::ones({o.width})),
             norm->register_parameter("bias", torch::zeros({o.width})), network};
    steps_.push_back(known);
  }
}

torch::Tensor SharedFeedForwardImpl::forward(const torch::Tensor& x) const {
  require(x.dim() > 0 && x.size(-1) == options.width,
          "shared_feed_forward: x is {}, expected [..., width] with width = {}",
          shape_text(x.sizes()), options.width);
  auto y = x;
  for (const auto& step : steps_)
    y = y + step.network->forward(
                torch::layer_norm(y, {options.width}, step.weight, step.bias, options.epsilon));
  return y;
}

int64_t wide_neurons(int64_t base, int64_t without, int64_t width, int64_t multiple) {
  require(base > without + width && width > 0 && multiple > 0,
          "wide FFN: {} parameters leave nothing beyond the {} of the rest", base, without);
  const double exact =
      static_cast<double>(base - without - width) / static_cast<double>(2 * width + 1);
  return std::max<int64_t>(multiple,
                           multiple * std::llround(exact / static_cast<double>(multiple)));
}

namespace {
const auto registered = layers::add<SharedFeedForward>(
    "shared_feed_forward", "feed-forward sub-layers of a stack: own, shared or none (One Wide)",
    {.example = {.width = 16,
                 .neurons = 32,
                 .shared_neurons = 48,
                 .plan = {"own", "shared:a", "none", "shared:a"}}});
}  // namespace
}  // namespace cajal
