#include "cajal/train/options.h"

#include <gtest/gtest.h>

#include "core/scratch.h"

namespace {

using namespace cajal;
using namespace cajal::train;

Options with(Schedule schedule) {
  Options options;
  options.steps = 100, options.warmup_steps = 10;
  options.learning_rate = 2, options.final_rate = 0.1;
  options.schedule = schedule;
  options.decay_share = 0.5;
  return options;
}

TEST(Schedule, WarmsUpLinearlyToTheFullRate) {
  const auto options = with(Schedule::cosine);
  EXPECT_DOUBLE_EQ(rate_at(options, 0), 0.2);
  EXPECT_DOUBLE_EQ(rate_at(options, 9), 2);
}

TEST(Schedule, CosineEndsAtTheFinalShareAndIsHalfwayInTheMiddle) {
  const auto options = with(Schedule::cosine);
  EXPECT_DOUBLE_EQ(rate_at(options, 10), 2);
  EXPECT_NEAR(rate_at(options, 55), 2 * (0.1 + 0.9 * 0.5), 1e-12);
  EXPECT_NEAR(rate_at(options, 100), 0.2, 1e-12);
}

TEST(Schedule, WsdIsFlatThenFallsLinearly) {
  const auto options = with(Schedule::wsd);
  EXPECT_DOUBLE_EQ(rate_at(options, 54), 2);
  EXPECT_NEAR(rate_at(options, 78), 2 * (0.1 + 0.9 * (1 - 68 / 90.) / 0.5), 1e-12);
}

TEST(Schedule, LinearAndConstantAreWhatTheySay) {
  EXPECT_NEAR(rate_at(with(Schedule::linear), 55), 2 * (0.1 + 0.9 * 0.5), 1e-12);
  EXPECT_DOUBLE_EQ(rate_at(with(Schedule::constant), 99), 2);
}

TEST(TrainerOptions, RefuseValuesThatMakeNoSenseNamingTheField) {
  Options options;
  options.steps = 0;
  EXPECT_EQ(error_of([&] { check(options); }), "trainer.steps: 0, expected at least 1");
  options = {};
  options.beta2 = 1;
  EXPECT_EQ(error_of([&] { check(options); }), "trainer.beta2: 1, expected at least 0 and below 1");
}

TEST(TrainerOptions, SurviveARoundTripThroughJson) {
  Options options;
  options.optimizer = Rule::muon;
  options.precision = Precision::bf16;
  const auto json = options::write(options);
  EXPECT_EQ(options::write(options::parse<Options>(json)), json);
}

}  // namespace
