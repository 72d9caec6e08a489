#include "cajal/atlas/zoo_world.h"

#include <gtest/gtest.h>

namespace cajal::atlas {
namespace {

ZooWorld tiny() {
  torch::manual_seed(1);
  return ZooWorld(torch::rand({32, 1, 28, 28}), torch::randint(10, {32}, torch::kLong),
                  {.training = {.steps = 1, .batch = 4}, .drawn = 24, .most_pairs = 3});
}

TEST(ZooWorld, GivesTheSameWhateverWasAskedBefore) {
  auto a = tiny(), b = tiny();
  b.inversion(2);
  const auto x = a.fit(ZooKind::rotation, 1), y = b.fit(ZooKind::rotation, 1);
  EXPECT_EQ(options::write(x), options::write(y));
  EXPECT_EQ(x.generator_units, 64 + 32 + 16);
  EXPECT_LE(x.above, x.best);
  EXPECT_EQ(std::ssize(x.buddies), x.best);
}

TEST(ZooWorld, InversionHasTheBestPairsAndScoresThem) {
  auto world = tiny();
  const auto& w = world.inversion(1);
  EXPECT_LE(w.pairs.size(), 3u);
  const auto clean = torch::rand({2, 1, 28, 28});
  const auto score = try_inversion(w, clean, clean, torch::zeros({2}, torch::kLong),
                                   {.maps = 0, .pixels = 1, .steps = 30, .learning_rate = 0.1});
  const auto start = try_inversion(w, clean, clean, torch::zeros({2}, torch::kLong),
                                   {.maps = 0, .pixels = 1, .steps = 1, .learning_rate = 0.1});
  EXPECT_LT(score.mse, start.mse);
}

TEST(EdgesOf, AreWhereNeighboursDiffer) {
  auto picture = torch::zeros({1, 1, 28, 28});
  picture.slice(3, 10, 20).fill_(1);
  const auto edges = edges_of(picture)[0][0][5];
  EXPECT_EQ(edges.nonzero().flatten()[0].item<int64_t>(), 10);
  EXPECT_EQ(edges.sum().item<float>(), 2);
}

}  // namespace
}  // namespace cajal::atlas
