#include <gtest/gtest.h>

#include "cajal/core/error.h"
#include "cajal/layers/ffn/shared.h"
#include "gradcheck.h"

namespace cajal {
namespace {

SharedFeedForward stack(FfnPlan plan) {
  torch::manual_seed(3);
  SharedFeedForward out(
      SharedFeedForwardOptions{.width = 6, .neurons = 8, .plan = std::move(plan)});
  out->to(torch::kDouble);
  return out;
}

TEST(SharedFeedForward, TheGradientOfASharedNetworkIsTheSumOverItsUntiedCopies) {
  auto tied = stack({"shared:a", "none", "shared:a"}), untied = stack({"own", "none", "own"});
  {
    const torch::NoGradGuard no_grad;
    for (auto& item : untied->named_parameters()) {
      auto name = item.key();
      for (const char* own : {"own_0", "own_2"})
        if (const auto at = name.find(own); at != std::string::npos)
          name.replace(at, 5, "shared_a");
      item.value().copy_(tied->named_parameters()[name]);
    }
  }
  const auto x = torch::randn({5, 6}, torch::kDouble);
  EXPECT_LT((tied->forward(x) - untied->forward(x)).abs().max().item<double>(), 1e-12);
  tied->forward(x).square().sum().backward();
  untied->forward(x).square().sum().backward();
  const auto copies = untied->named_parameters();
  for (const char* part : {"key", "value", "bias_key", "bias_value"}) {
    const auto whole = tied->named_parameters()[std::string("bank.shared_a.") + part].grad();
    const auto sum = copies[std::string("bank.own_0.") + part].grad() +
                     copies[std::string("bank.own_2.") + part].grad();
    EXPECT_LT((whole - sum).abs().max().item<double>(), 1e-6) << part;
  }
}

TEST(SharedFeedForward, HasTheGradientOfItsFunction) {
  auto layer = stack({"own", "shared:a", "shared:a"});
  const auto x = torch::randn({3, 6}, torch::kDouble);
  auto inputs = layer->parameters();
  inputs.push_back(x);
  EXPECT_LT(testing::gradient_error([&] { return layer->forward(x); }, inputs), 1e-6);
}

TEST(SharedFeedForward, APlanOfNoneIsTheIdentity) {
  const auto x = torch::randn({3, 6}, torch::kDouble);
  EXPECT_TRUE(torch::equal(stack({"none", "none"})->forward(x), x));
}

TEST(SharedFeedForward, RefusesAnEntryThatIsNoPlan) {
  EXPECT_THROW(stack({"own", "share"}), Error);
  EXPECT_THROW(stack({}), Error);
}

TEST(WideNeurons, SolvesForEqualParameters) {
  // d 1024, 12 networks of 4096: one of 49152 and a norm less for each layer without a network.
  const int64_t d = 1024, network = 2 * d * 4096 + 4096 + d, rest = 50'000'000;
  EXPECT_EQ(wide_neurons(rest + 12 * network, rest, d), 49152);
}

}  // namespace
}  // namespace cajal
