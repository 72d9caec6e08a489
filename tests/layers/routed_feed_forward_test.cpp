#include <gtest/gtest.h>

#include "cajal/core/error.h"
#include "cajal/layers/ffn/balancing.h"
#include "cajal/layers/ffn/lora.h"
#include "cajal/layers/ffn/routed.h"
#include "gradcheck.h"

namespace cajal {
namespace {

constexpr int64_t kWidth = 6, kNeurons = 12;

RoutedFeedForward layer(RoutedFeedForwardOptions options, torch::Dtype type = torch::kDouble) {
  torch::manual_seed(11);
  options.width = kWidth, options.neurons = kNeurons;
  RoutedFeedForward out(options);
  {  // corrections that are 0 at the start would show nothing
    const torch::NoGradGuard no_grad;
    for (auto& item : out->named_parameters())
      if (item.key().ends_with("_right")) item.value().normal_(0, 0.3);
  }
  out->to(type);
  return out;
}

torch::Tensor output(const RoutedFeedForward& of, const torch::Tensor& x) {
  return std::get<0>(of->forward(x));
}

double difference(const torch::Tensor& a, const torch::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

// One token and one block after another, by the dossier's lines.
torch::Tensor naive(const RoutedFeedForward& of, const torch::Tensor& x) {
  const auto& o = of->options;
  const auto& n = of->neurons;
  const int64_t size = o.neurons / o.blocks;
  std::vector<torch::Tensor> out;
  for (int64_t t = 0; t < x.size(0); ++t) {
    const auto p = torch::sigmoid(torch::mv(of->router, x[t]) + of->router_bias);
    const auto chosen = std::get<1>(p.topk(o.active));
    auto y = n.bias_value.defined() ? n.bias_value : torch::zeros({o.width}, x.options());
    for (int64_t i = 0; i < o.active; ++i) {
      const auto g = chosen[i].item<int64_t>();
      const auto rows = [&](const torch::Tensor& w) { return w.narrow(0, g * size, size); };
      const auto c = o.rank > 0 ? 2 * p[g] : torch::ones({}, x.options());
      const auto line = [&](const torch::Tensor& w, const torch::Tensor& b, const LowRank& lora) {
        auto pre = torch::mv(rows(w), x[t]);
        if (b.defined()) pre = pre + rows(b);
        pre = c * pre;
        if (!lora.defined()) return pre;
        return pre + n.lora_scale * torch::mv(rows(lora.right), torch::mv(lora.left.t(), x[t]));
      };
      auto h = line(n.key, n.bias_key, n.lora_key);
      h = o.gated ? activate(o.law, line(n.gate, n.bias_gate, n.lora_gate)) * h
                  : activate(o.law, h);
      y = y + c * torch::mv(rows(n.value).t(), h);
      if (n.lora_value.defined())
        y = y +
            n.lora_scale * torch::mv(n.lora_value.right, torch::mv(rows(n.lora_value.left).t(), h));
    }
    out.push_back(y);
  }
  return torch::stack(out);
}

TEST(RoutedFeedForward, EqualsTheNaiveSumOverChosenBlocksInEveryForm) {
  const auto x = torch::randn({7, kWidth}, torch::kDouble);
  for (const bool gated : {false, true})
    for (const bool bias : {false, true})
      for (const int64_t rank : {0, 2})
        for (const int64_t active : {1, 2, 4}) {
          RoutedFeedForwardOptions options{.active = active,
                                           .law = gated ? Activation::silu : Activation::relu,
                                           .gated = gated,
                                           .bias = bias,
                                           .rank = rank,
                                           .alpha = rank > 0 ? 3.0 : 0.0};
          auto grouped = layer(options);
          options.form = RoutedForm::masked;
          const auto expected = naive(grouped, x);
          EXPECT_LT(difference(output(grouped, x), expected), 1e-12);
          EXPECT_LT(difference(output(layer(options), x), expected), 1e-12);
        }
}

TEST(RoutedFeedForward, WithAllBlocksOfThePlainFormItIsDenseWithItsGradients) {
  auto routed = layer({.active = 4}, torch::kFloat);
  const auto x = torch::randn({9, kWidth}).requires_grad_();
  const auto& n = routed->neurons;
  const std::vector<torch::Tensor> inputs{x, n.key, n.value, n.bias_key, n.bias_value};
  const auto y = output(routed, x);
  const auto dense =
      torch::matmul(torch::relu(torch::matmul(x, n.key.t()) + n.bias_key), n.value) + n.bias_value;
  EXPECT_LT(difference(y, dense), 1e-5);
  const auto g = torch::randn_like(y);
  const auto a = torch::autograd::grad({y}, inputs, {g}),
             b = torch::autograd::grad({dense}, inputs, {g});
  for (size_t i = 0; i < a.size(); ++i) EXPECT_LT(difference(a[i], b[i]), 1e-5) << i;
}

TEST(RoutedFeedForward, GroupedAndMaskedHaveTheSameGradients) {
  RoutedFeedForwardOptions options{.law = Activation::silu, .gated = true, .rank = 2};
  auto grouped = layer(options, torch::kFloat);
  options.form = RoutedForm::masked;
  auto masked = layer(options, torch::kFloat);
  const auto x = torch::randn({9, kWidth});
  output(grouped, x).square().sum().backward();
  output(masked, x).square().sum().backward();
  const auto theirs = masked->named_parameters();
  for (const auto& item : grouped->named_parameters())
    EXPECT_LT(difference(item.value().grad(), theirs[item.key()].grad()), 1e-5) << item.key();
}

TEST(RoutedFeedForward, HasTheGradientOfItsFunction) {
  for (const bool gated : {false, true}) {
    auto routed = layer({.law = Activation::silu, .gated = gated, .rank = 2, .losses = true});
    const auto x = torch::randn({5, kWidth}, torch::kDouble);
    auto inputs = routed->parameters();
    inputs.push_back(x);
    EXPECT_LT(testing::gradient_error(
                  [&] {
                    const auto [y, loss] = routed->forward(x);
                    return torch::cat({y.flatten(), loss.view({1})});
                  },
                  inputs),
              1e-6);
  }
}

TEST(RoutedFeedForward, ThePlainFormGivesItsRouterNoGradientAndTheTunedFormDoes) {
  const auto x = torch::randn({5, kWidth}, torch::kDouble);
  for (const int64_t rank : {0, 2}) {
    auto routed = layer({.rank = rank});
    output(routed, x).sum().backward();
    EXPECT_EQ(
        routed->router.grad().defined() && routed->router.grad().abs().sum().item<double>() > 0,
        rank > 0);
  }
}

TEST(RoutedFeedForward, ItsBalanceLossIsOneAtEvenUse) {
  auto routed = layer({.active = 4, .losses = true});
  const torch::NoGradGuard no_grad;
  routed->router.zero_(), routed->router_bias.zero_();
  const auto loss = std::get<1>(routed->forward(torch::randn({8, kWidth}, torch::kDouble)));
  EXPECT_NEAR(loss.item<double>(), 4, 1e-9);  // all four are chosen by each
}

TEST(RoutedFeedForward, NoRowsGiveNoRows) {
  EXPECT_EQ(output(layer({}), torch::zeros({0, kWidth}, torch::kDouble)).size(0), 0);
}

TEST(RoutedFeedForward, NaNsStayInTheirRows) {
  auto x = torch::randn({5, kWidth}, torch::kDouble);
  x[2].fill_(NAN);
  const auto y = output(layer({.rank = 2}), x);
  EXPECT_TRUE(y[2].isnan().all().item<bool>());
  EXPECT_EQ(y.isnan().sum().item<int64_t>(), kWidth);
}

TEST(RoutedFeedForward, RefusesOptionsThatDoNotFit) {
  EXPECT_THROW(layer({.blocks = 5}), Error);
  EXPECT_THROW(layer({.blocks = 0}), Error);
  EXPECT_THROW(layer({.active = 5}), Error);
  EXPECT_THROW(layer({.active = -1}), Error);
  EXPECT_THROW(layer({.rank = -1}), Error);
  EXPECT_THROW(layer({.alpha = 2}), Error);
}

TEST(LoraLinear, ItsMergedWeightComputesTheSame) {
  for (const double alpha : {0.0, 6.0}) {
    LoraLinear lora(LoraLinearOptions{.inputs = 6, .outputs = 4, .rank = 2, .alpha = alpha});
    const torch::NoGradGuard no_grad;
    lora->to(torch::kDouble);
    const auto x = torch::randn({5, 6}, torch::kDouble);
    EXPECT_LT(difference(lora->forward(x), torch::linear(x, lora->weight, lora->bias)), 1e-12);
    lora->correction.right.normal_();
    EXPECT_LT(difference(lora->forward(x), torch::linear(x, lora->merged(), lora->bias)), 1e-12);
  }
  EXPECT_THROW(LoraLinear(LoraLinearOptions{.inputs = 6, .outputs = 4, .rank = 0}), Error);
}

}  // namespace
}  // namespace cajal
