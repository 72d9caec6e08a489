#include "cajal/surgery/regroup.h"

#include <gtest/gtest.h>

#include <set>

namespace {

using namespace cajal::surgery;

// Neuron i fires on the tokens of its clique, i % 3, and neuron 11 never.
torch::Tensor cliques() {
  auto fires = torch::zeros({30, 12}, torch::kBool);
  for (int64_t t = 0; t < 30; ++t)
    for (int64_t i = 0; i < 11; ++i) fires[t][i] = i % 3 == t % 3;
  return fires;
}

TEST(Regroup, NeuronsThatFireTogetherStandTogether) {
  const auto order = coactivation_order(cliques(), 4);
  ASSERT_EQ(order.size(), 12u);
  EXPECT_EQ(std::set(order.begin(), order.end()).size(), 12u);
  for (size_t begin = 0; begin < 12; begin += 4)
    for (size_t i = begin; i < begin + 4; ++i)
      EXPECT_TRUE(order[i] == 11 || order[i] % 3 == order[begin] % 3) << i;
  EXPECT_EQ(order.back(), 11);
}

TEST(Regroup, FewerGroupsAreAliveThen) {
  EXPECT_EQ(live_groups(cliques(), {}, 4), 1.0);
  EXPECT_NEAR(live_groups(cliques(), coactivation_order(cliques(), 4), 4), 1.0 / 3, 1e-6);
}

}  // namespace
