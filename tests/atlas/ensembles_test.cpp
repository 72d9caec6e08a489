#include "cajal/atlas/ensembles.h"

#include <gtest/gtest.h>

#include <cmath>

namespace {
using namespace cajal::atlas;

TEST(HoyerSparsity, IsOneForOneNeuronAlone) {
  auto h = torch::zeros({1, 100});
  h[0][42] = 3;
  EXPECT_NEAR(hoyer_sparsity(h).item<double>(), 1, 1e-12);
}

TEST(HoyerSparsity, IsZeroForAllAlike) {
  EXPECT_NEAR(hoyer_sparsity(torch::full({1, 100}, 0.7)).item<double>(), 0, 1e-6);
}

TEST(HoyerSparsity, DoesNotDependOnTheScale) {
  const auto h = torch::rand({5, 64}, torch::kDouble);
  EXPECT_LT((hoyer_sparsity(h) - hoyer_sparsity(1e3 * h)).abs().max().item<double>(), 1e-6);
}

TEST(HoyerSparsity, OfRectifiedNoiseIsTheFloorOfTheDossier) {
  torch::manual_seed(1);
  const auto h = torch::relu(torch::randn({400, 784}));
  EXPECT_NEAR(hoyer_sparsity(h).mean().item<double>(), 0.45, 0.01);
}

// The trap: rows of zeros have no sparsity; dropped silently they would make a dead layer look
// good.
TEST(Sparsity, LeavesRowsOfZerosOutAndCountsThem) {
  auto h = torch::ones({4, 9});
  h[2].zero_();
  h.select(1, 3).zero_();
  const auto s = sparsity(h, torch::tensor({0, 0, 1, 1}), 2);
  EXPECT_EQ(s.zero_rows, 1);
  EXPECT_TRUE(std::isfinite(s.mean));
  EXPECT_NEAR(s.dead_share, 1.0 / 9, 1e-12);
}

TEST(Ensembles, AreNeuronsAboveTwiceTheMeanOfTheOthers) {
  // class 0: neuron 0 at 3, the others at 1: 3 > 2 · 1; class 1: 1.9 is not above 2 · 1.
  const auto h = torch::tensor({{3.0, 1.0, 1.0, 1.0}, {1.0, 1.9, 1.0, 1.0}});
  const auto member = ensembles(h, torch::tensor({0, 1}), 2);
  EXPECT_TRUE(member[0][0].item<bool>());
  EXPECT_EQ(member.sum().item<int64_t>(), 1);
}

TEST(Ensembles, ByTestFindNeuronsThatAnswerToOneClass) {
  torch::manual_seed(1);
  const auto labels = torch::arange(300).remainder(3);
  auto h = torch::rand({300, 5});
  h.select(1, 2).add_(labels.eq(1).to(torch::kFloat));
  const auto member = ensembles_by_test(h, labels, 3, 0.001);
  EXPECT_TRUE(member[1][2].item<bool>());
  EXPECT_EQ(member.sum().item<int64_t>(), 1);
}

TEST(Ensembles, OverlapCountsSharedNeuronsAndJaccardDividesByTheUnion) {
  const auto member = torch::tensor({{1, 1, 1, 0}, {0, 1, 1, 1}}).to(torch::kBool);
  EXPECT_EQ(overlap(member)[0][1].item<int64_t>(), 2);
  EXPECT_NEAR(jaccard_overlap(member)[0][1].item<double>(), 0.5, 1e-12);
  const auto census = census_of(member, torch::tensor({{-1.0}, {1.0}, {1.0}, {-1.0}}));
  EXPECT_NEAR(census.median_share, 0.75, 1e-12);
  EXPECT_NEAR(census.mean_jaccard, 0.5, 1e-12);
  EXPECT_NEAR(census.negative_in, 0.5, 1e-12);
}

}  // namespace
