#include "cajal/atlas/emergence.h"

#include <gtest/gtest.h>

#include "cajal/core/error.h"

namespace cajal::atlas {
namespace {

const EmergenceOptions kTiny{.layers = 1,
                             .width = 32,
                             .window = 8,
                             .batch = 4,
                             .steps = 5,
                             .samples = 2,
                             .valid_batches = 1,
                             .redrawn = 1};

torch::Tensor bytes(int64_t seed) {
  torch::manual_seed(seed);
  return torch::randint(256, {300}, torch::kLong);
}

TEST(FollowEmergence, LooksAfterPowersOfTwoAndStartsAtZero) {
  const auto run = follow_emergence(bytes(1), bytes(2), kTiny, 3);
  std::vector<int64_t> steps;
  for (const auto& m : run.moments) steps.push_back(m.step);
  EXPECT_EQ(steps, (std::vector<int64_t>{0, 1, 2, 4, 5}));
  const auto& first = run.moments.front();
  for (const double e : {first.e, first.shuffled, first.normal, first.theta_100, first.theta_200})
    EXPECT_EQ(e, 0);
  EXPECT_NE(run.moments.back().e, 0);
  EXPECT_NEAR(first.loss, std::log(256), 0.3);
  EXPECT_EQ(run.redrawn.size(), 1u);
}

TEST(FollowEmergence, GivesTheSameForTheSameSeedAlone) {
  const auto a = follow_emergence(bytes(1), bytes(2), kTiny, 3),
             other = follow_emergence(bytes(1), bytes(2), kTiny, 4),
             b = follow_emergence(bytes(1), bytes(2), kTiny, 3);
  EXPECT_EQ(a.moments.back().e, b.moments.back().e);
  EXPECT_EQ(a.moments.back().normal, b.moments.back().normal);
  EXPECT_NE(a.moments.back().e, other.moments.back().e);
}

TEST(FollowEmergence, RefusesTextsThatHoldNoWindow) {
  EXPECT_THROW(follow_emergence(bytes(1).slice(0, 0, 9), bytes(2), kTiny, 1), Error);
}

}  // namespace
}  // namespace cajal::atlas
