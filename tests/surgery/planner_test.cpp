#include "cajal/surgery/planner.h"

#include <gtest/gtest.h>

#include <cmath>

#include "cajal/core/random.h"

namespace cajal::surgery {
namespace {

// Errors fall by 4 a bit, scaled by how much each group matters.
Choices random_choices(uint64_t seed, int layers = 3, int groups = 4) {
  Random random(seed);
  Choices choices;
  choices.formats = {Format::q4_0, Format::q5_0, Format::q8_0};
  for (int l = 0; l < layers; ++l) {
    auto& layer = choices.layers.emplace_back();
    for (int g = 0; g < groups; ++g) {
      auto& group = layer.groups.emplace_back();
      group.neurons = 32;
      for (int i = 0; i < 32; ++i) layer.order.push_back(g * 32 + i);
      for (auto* half : {&group.key, &group.value}) {
        const double weight = std::exp(2 * random.normal());
        for (const auto format : choices.formats) {
          half->bytes.push_back(32 * row_bytes(format, 64));
          half->error.push_back(weight * std::exp2(-2 * bits_per_value(format)) *
                                (1 + 0.2 * random.uniform()));
        }
      }
    }
  }
  return choices;
}

TEST(Planner, StaysWithinItsBudgetAndGetsBetterWithIt) {
  const auto choices = random_choices(1);
  const auto least = uniform_cost(choices, 0).bytes, most = uniform_cost(choices, 2).bytes;
  double before = INFINITY;
  for (int64_t budget = least; budget <= most; budget += (most - least) / 7) {
    const auto spent = cost(choices, plan_for_budget(choices, budget));
    EXPECT_LE(spent.bytes, budget);
    EXPECT_LE(spent.error, before);
    before = spent.error;
  }
}

TEST(Planner, IsNeverWorseThanOneFormatOfTheSameBytes) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const auto choices = random_choices(seed);
    for (size_t f = 0; f < 3; ++f) {
      const auto uniform = uniform_cost(choices, f);
      const auto planned = cost(choices, plan_for_budget(choices, uniform.bytes));
      EXPECT_LE(planned.bytes, uniform.bytes);
      EXPECT_LE(planned.error, uniform.error * (1 + 1e-12)) << seed << " " << f;
    }
  }
}

TEST(Planner, ComesCloseToTheBestOfAllPlans) {
  for (uint64_t seed = 0; seed < 10; ++seed) {
    const auto choices = random_choices(seed, 1, 3);  // 3^6 plans
    const auto budget = uniform_cost(choices, 1).bytes;
    double best = INFINITY;
    for (int code = 0; code < 729; ++code) {
      int rest = code;
      Cost total;
      for (const auto& group : choices.layers[0].groups)
        for (const auto* half : {&group.key, &group.value}) {
          total.bytes += half->bytes[rest % 3], total.error += half->error[rest % 3];
          rest /= 3;
        }
      if (total.bytes <= budget) best = std::min(best, total.error);
    }
    // The greedy way can stop short by one step that does not fit.
    EXPECT_LE(cost(choices, plan_for_budget(choices, budget)).error, 2.5 * best) << seed;
  }
}

TEST(Planner, JoinsGroupsThatComeOutAlike) {
  const auto choices = random_choices(3);
  const auto plan = plan_for_budget(choices, uniform_cost(choices, 2).bytes);
  for (const auto& layer : plan.layers) {
    ASSERT_EQ(layer.groups.size(), 1u);
    EXPECT_EQ(layer.groups[0].neurons, 128);
    EXPECT_TRUE(layer.order.empty());
  }
}

TEST(Planner, SaysHowMuchIsNeededAtLeast) {
  const auto choices = random_choices(3);
  const auto least = uniform_cost(choices, 0).bytes;
  try {
    plan_for_budget(choices, least - 1);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(std::to_string(least)), std::string::npos);
  }
}

TEST(Planner, SpendsNothingWhereErrorDoesNotFall) {
  auto choices = random_choices(3);
  for (auto& group : choices.layers[1].groups)
    for (auto* half : {&group.key, &group.value}) half->error = {0, 0, 0};
  const auto plan = plan_for_budget(choices, uniform_cost(choices, 1).bytes);
  EXPECT_EQ(plan.layers[1].groups[0].key.format, Format::q4_0);
  EXPECT_EQ(plan.layers[1].groups.size(), 1u);
}

TEST(Planner, OneHalfGivesBytesThatAnotherUsesBetter) {
  Choices choices;
  choices.formats = {Format::q4_0, Format::q5_0};
  auto& layer = choices.layers.emplace_back();
  layer.order = {0};
  layer.groups.push_back({1, {{0, 10}, {4, 1}}, {{0, 15}, {5, 0.9}}});
  // The gain a byte of the key is larger, so it is bought first, and the value no longer fits.
  const auto plan = plan_for_budget(choices, 24);
  EXPECT_EQ(cost(choices, plan).bytes, 15);
  EXPECT_EQ(plan.layers[0].groups[0].value.format, Format::q5_0);
}

TEST(Planner, AFilledPlanCostsNoMoreErrorAndNoMoreThanTheBudget) {
  const auto choices = random_choices(5);
  const auto least = uniform_cost(choices, 0), most = uniform_cost(choices, 2);
  const auto uniform = plan_for_budget(choices, least.bytes);
  const int64_t budget = (least.bytes + most.bytes) / 2;
  auto start = uniform;
  for (size_t l = 0; l < start.layers.size(); ++l) start.layers[l].order = choices.layers[l].order;
  const auto spent = cost(choices, filled(choices, start, budget));
  EXPECT_LE(spent.bytes, budget);
  EXPECT_GT(spent.bytes, 0.98 * static_cast<double>(budget));
  EXPECT_LT(spent.error, least.error);
  EXPECT_THROW(filled(choices, start, least.bytes - 1), Error);
}

}  // namespace
}  // namespace cajal::surgery
