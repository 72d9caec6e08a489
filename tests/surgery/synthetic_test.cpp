#include "cajal/surgery/synthetic.h"

#include <gtest/gtest.h>

#include "cajal/core/error.h"

namespace cajal::surgery {
namespace {

TEST(SyntheticExperts, NeuronsOfTheTopicsOfATokenFireAndOthersDoNot) {
  torch::manual_seed(1);
  const auto s = synthetic_experts(8, 4, 32, 64, 0);
  EXPECT_EQ(s.key.sizes(), (std::vector<int64_t>{32, 32}));
  const auto fires = (s.activations > 0).to(torch::kFloat);
  EXPECT_EQ(fires.sum(1).min().item<double>(), 12);  // three topics of four neurons
  EXPECT_EQ(fires.sum(1).max().item<double>(), 12);
  for (int64_t i = 0; i < 32; ++i)
    for (int64_t j = 0; j < 32; ++j)
      EXPECT_EQ(torch::equal(fires.select(1, i), fires.select(1, j)),
                s.topic[i].item<int64_t>() == s.topic[j].item<int64_t>());
}

TEST(SyntheticExperts, RefusesMoreTopicsThanFeatures) {
  EXPECT_THROW(synthetic_experts(33, 4, 32, 64, 0.3), Error);
}

}  // namespace
}  // namespace cajal::surgery
