#include <gtest/gtest.h>

#include "cajal/surgery/subject_trials.h"

namespace cajal::surgery {
namespace {

SubjectBench tiny() {
  return SubjectBench({20, data::generated_items(40, 10, 1), data::generated_items(40, 10, 2)},
                      {.channels = {8, 8},
                       .blocks = 1,
                       .noise_steps = 10,
                       .base_steps = 2,
                       .base_batch = 4,
                       .judge_steps = 2,
                       .sample_steps = 2,
                       .prior = 4,
                       .held_draws = 1,
                       .prompts = 4});
}
const SubjectTrialOptions kTrial{
    .draws = 4, .sweep_draws = 4, .tune_steps = 1, .union_steps = 1, .kept = 1};

bool as_trained(SubjectBench& bench) {
  const auto now = snapshot(*bench.model());
  for (size_t i = 0; i < now.size(); ++i)
    if (!torch::equal(now[i], bench.original()[i])) return false;
  return true;
}

TEST(SubjectBench, TheBaseModelHasNeitherFallenNorDrifted) {
  auto bench = tiny();
  const auto subject = bench.subject(1, 3);
  const auto s = bench.score(subject, 1, 3);
  EXPECT_EQ(s.drop, 0);
  EXPECT_EQ(s.drift, 0);
  bench.weights()[1].detach().zero_();
  EXPECT_NE(bench.score(subject, 1, 3).drift, 0);
}

TEST(SubjectTrials, LeaveTheModelAndGiveTheSameInAnyOrder) {
  auto a = tiny(), b = tiny();
  const auto tuned = try_tuning(b, 1, 2, kTrial);
  const auto x = try_masks(a, 0, 1, kTrial), y = try_masks(b, 0, 1, kTrial);
  EXPECT_EQ(x.mask, y.mask);
  ASSERT_EQ(x.methods.size(), y.methods.size());
  for (size_t k = 0; k < x.methods.size(); ++k) {
    EXPECT_EQ(options::write(x.methods[k].scores), options::write(y.methods[k].scores));
    EXPECT_EQ(x.methods[k].picture, y.methods[k].picture);
  }
  const auto both = try_both(b, 0, 1, {x.mask, x.mask, x.mask}, 1, kTrial);
  EXPECT_LE(both.tuned, 1);
  EXPECT_TRUE(as_trained(a));
  EXPECT_TRUE(as_trained(b));
  EXPECT_EQ(tuned.size(), 4u);
}

TEST(SubjectTrials, GateChecksHoldOnAnyModel) {
  auto bench = tiny();
  const auto checks = check_gates(bench);
  EXPECT_LT(checks.leaf, 1e-6);
  EXPECT_LT(checks.differences, 1e-3);
  EXPECT_TRUE(checks.undone);
  EXPECT_TRUE(as_trained(bench));
}

TEST(IndexLists, RandomOnesHaveAsManyOfEachMatrix) {
  const IndexLists lists{{10, 5, 0}, {{1, 2, 3, 9}, {}, {}}};
  const auto random = random_like(lists);
  EXPECT_NO_THROW(check(random));
  EXPECT_EQ(random.sizes, lists.sizes);
  EXPECT_EQ(random.indices[0].size(), 4u);
  EXPECT_TRUE(random.indices[1].empty());
}

}  // namespace
}  // namespace cajal::surgery
