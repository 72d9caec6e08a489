#include "cajal/neurons/elementwise.h"

#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <gtest/gtest.h>

#include "cajal/core/error.h"
#include "gradcheck.h"

namespace cajal {
namespace {

torch::Tensor starts(const laws::Law& law, int64_t channels, torch::Dtype type) {
  if (law.parameters.empty()) return {};
  std::vector<torch::Tensor> rows;
  for (const auto& parameter : law.parameters)
    rows.push_back(parameter.start *
                   (1 + 0.01 * torch::arange(std::max<int64_t>(channels, 1), type)));
  auto p = torch::stack(rows);
  return channels == 0 ? p.reshape({-1}).contiguous() : p.contiguous();
}

/// Output, and gradients by x and the parameters, of a weighted sum.
std::vector<torch::Tensor> all_of(
    const std::function<torch::Tensor(torch::Tensor, torch::Tensor)>& f, const torch::Tensor& x,
    const torch::Tensor& p) {
  auto own_x = x.detach().clone().requires_grad_(true);
  auto own_p = p.defined() ? p.detach().clone().requires_grad_(true) : p;
  const auto y = f(own_x, own_p);
  std::vector<torch::Tensor> of = {own_x};
  if (p.defined()) of.push_back(own_p);
  auto found = torch::autograd::grad({(y * torch::cos(y.detach() * 3)).sum()}, of, {}, c10::nullopt,
                                     false, true);
  for (size_t i = 0; i < found.size(); ++i)
    if (!found[i].defined()) found[i] = torch::zeros_like(of[i]);
  found.push_back(y.detach());
  return found;
}

void expect_fused_is_chain(int64_t channels, std::vector<int64_t> shape, int64_t axis) {
  torch::manual_seed(1);
  for (const auto& law : laws::all()) {
    const auto x = torch::randn(shape, torch::kDouble) * 3;
    const auto p = starts(law, channels, torch::kDouble);
    const auto fused = all_of([&](auto x, auto p) { return apply_law(law, x, p, axis); }, x, p);
    const auto chain =
        all_of([&](auto x, auto p) { return apply_law_as_chain(law, x, p, axis); }, x, p);
    for (size_t i = 0; i < fused.size(); ++i) {
      auto difference = (fused[i] - chain[i]).abs();
      if (i == 1 && p.defined())  // constants have a gradient in the chain only
        difference = difference.slice(0, 0, law.learned);
      const double worst = difference.numel() > 0 ? difference.max().item<double>() : 0;
      EXPECT_LT(worst, 1e-8) << law.name << " part " << i;
    }
  }
}

TEST(Elementwise, OneSetOfParametersEqualsTheChain) { expect_fused_is_chain(0, {3, 5, 7}, 1); }
TEST(Elementwise, ParametersAChannelInTheMiddleEqualTheChain) {
  expect_fused_is_chain(5, {3, 5, 7}, 1);
}
TEST(Elementwise, ParametersAChannelOnTheLastAxisEqualTheChain) {
  expect_fused_is_chain(7, {3, 5, 7}, -1);
}
TEST(Elementwise, ManyRunsEqualTheChain) { expect_fused_is_chain(0, {5, 7000}, 1); }

TEST(Elementwise, TheGradientIsTheSameForEveryNumberOfThreads) {
  torch::manual_seed(1);
  const auto x = torch::randn({64, 9, 100});
  const auto& law = laws::at("pau");
  const auto run = [&](int threads) {
    set_torch_threads(threads);
    return all_of([&](auto x, auto p) { return apply_law(law, x, p); }, x,
                  starts(law, 9, torch::kFloat));
  };
  const auto one = run(1), two = run(2);
  for (size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(torch::equal(one[i], two[i]));
}

TEST(Elementwise, HasSecondDerivatives) {
  auto x = torch::linspace(-3.1, 3.1, 12, torch::kDouble).requires_grad_(true);
  const auto slope = [&](const torch::Tensor& at) {
    const torch::AutoGradMode on(true);  // differences are taken without
    return torch::autograd::grad({apply_law(laws::at("mish"), at).sum()}, {at}, {}, true, true)[0];
  };
  EXPECT_LT(testing::gradient_error([&] { return slope(x); }, {x}), 1e-6);
}

/// Bytes that this thread holds more than when it began.
struct Meter : c10::MemoryReportingInfoBase {
#if CAJAL_TORCH_AT_LEAST(2, 0)
  using Total = size_t;
#else
  using Total = int64_t;
#endif
  int64_t live = 0;
  void reportMemoryUsage(void*, int64_t bytes, Total, Total, c10::Device) override {
    live += bytes;
  }
  bool memoryProfilingEnabled() const override { return true; }
};

TEST(Elementwise, KeepsNothingButItsInputForBackward) {
  set_torch_threads(1);
  for (const auto& law : laws::all()) {
    const auto x = torch::randn({4096}).requires_grad_(true);
    const auto p = starts(law, 0, torch::kFloat);
    const auto meter = std::make_shared<Meter>();
    torch::Tensor y;
    {
      const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, meter);
      y = apply_law(law, x, p);
    }
    EXPECT_GE(meter->live, 4 * 4096) << law.name;  // y
    EXPECT_LE(meter->live, 4 * 4096 + 1024) << law.name;
  }
}

TEST(Elementwise, SixteenBitNumbersKeepTheirType) {
  const auto x = torch::linspace(-4, 4, 33).to(torch::kBFloat16);
  const auto y = apply_law(laws::at("mish"), x);
  EXPECT_EQ(y.scalar_type(), torch::kBFloat16);
  const auto expected = apply_law(laws::at("mish"), x.to(torch::kFloat));
  EXPECT_LT((y.to(torch::kFloat) - expected).abs().max().item<double>(), 0.02);
}

TEST(Elementwise, TakesStridedAndEmptyInput) {
  const auto x = torch::randn({6, 8}).t();
  EXPECT_TRUE(torch::allclose(apply_law(laws::at("lisht"), x), x * torch::tanh(x)));
  EXPECT_EQ(apply_law(laws::at("lisht"), torch::empty({0, 4})).numel(), 0);
}

TEST(Elementwise, RegistersOnlyWhatIsLearned) {
  const Elementwise pdelu(ElementwiseOptions{.law = "pdelu"});
  EXPECT_EQ(pdelu->named_parameters().keys(), std::vector<std::string>{"a"});
  EXPECT_TRUE(
      Elementwise(ElementwiseOptions{.law = "prelu", .learn = false})->parameters().empty());
}

TEST(Elementwise, PreluAChannelIsTorchs) {
  const Elementwise prelu(parse_elementwise("prelu:per_channel,init=0.1", 4));
  const auto x = torch::randn({2, 4, 5});
  EXPECT_TRUE(torch::allclose(prelu->forward(x), torch::prelu(x, torch::full({4}, 0.1))));
}

TEST(Elementwise, ATextSaysLawSharingAndStarts) {
  const auto options = parse_elementwise("srs:per_channel,b=2,fixed", 8, -1);
  EXPECT_EQ(options.law, "srs");
  EXPECT_EQ(options.per, Per::channel);
  EXPECT_EQ(options.channels, 8);
  EXPECT_FALSE(options.learn);
  EXPECT_EQ(options.start, (std::vector<double>{5, 2}));
}

TEST(Elementwise, AWrongTextIsRefusedNamingThePart) {
  const auto message = [](std::string_view text) -> std::string {
    try {
      parse_elementwise(text);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_EQ(message("prelu:per_chanel"),
            "activation 'prelu:per_chanel': 'per_chanel' is not per_layer, per_channel, fixed or "
            "NAME=NUMBER");
  EXPECT_EQ(message("prelu:slop=1"), "activation 'prelu:slop=1': 'slop' is no parameter of prelu");
  EXPECT_EQ(message("prelu:init=x"), "activation 'prelu:init=x': 'x' is no number");
  EXPECT_EQ(message("swich"), "no activation is called 'swich'; did you mean 'swish'?");
}

TEST(Elementwise, ChannelsThatDoNotFitAreRefused) {
  const Elementwise prelu(parse_elementwise("prelu:per_channel", 4));
  EXPECT_THROW(prelu->forward(torch::randn({2, 5})), Error);
  EXPECT_THROW(Elementwise(ElementwiseOptions{.law = "prelu", .per = Per::channel}), Error);
}

}  // namespace
}  // namespace cajal
