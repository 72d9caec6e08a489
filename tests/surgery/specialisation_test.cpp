#include "cajal/surgery/specialisation.h"

#include <gtest/gtest.h>

#include "cajal/core/error.h"

namespace cajal::surgery {
namespace {

// Norms of `neurons` neurons on two functions, each 20 windows of 10 tokens, ids 0 to 4 in both.
FunctionActivity noise(int64_t neurons) {
  torch::manual_seed(3);
  FunctionActivity out{.names = {"a", "b"}};
  const auto place = torch::arange(400, torch::kLong);
  out.function = place.ge(200).to(torch::kLong);
  out.window = place.div(10, "floor"), out.id = place.remainder(5);
  out.norms = {torch::rand({400, neurons})};
  return out;
}

constexpr SpecialisationOptions kPlain{.by_window = false, .beyond_ids = false};

TEST(Specialisation, FindsThePlantedNeuronAndFewOthers) {
  for (const auto& o : {kPlain, SpecialisationOptions{}}) {
    auto activity = noise(40);
    activity.norms[0].select(1, 0).add_(activity.function.to(torch::kFloat) * 2);
    const auto found = specialise(activity, o);
    EXPECT_NEAR(found.precision[1][0].item<double>(), 1, 1e-9);
    EXPECT_NEAR(found.null_mean[1][0].item<double>(), 0.5, 0.02);
    EXPECT_TRUE(found.special[1][0].item<bool>());
    EXPECT_FALSE(found.special[0][0].item<bool>());
    EXPECT_LE(found.special.sum().item<int64_t>(), 2);
    EXPECT_GT(found.log_ratio[1][0].item<double>(), 0.5);
  }
}

TEST(Specialisation, AveragePrecisionIsThatOfTheRanking) {
  // Scores 4, 3, 2, 1 with positives at ranks 1 and 3: (1 + 2/3) / 2.
  FunctionActivity four{.names = {"a", "b"},
                        .norms = {torch::tensor({{4.0f}, {3.0f}, {2.0f}, {1.0f}})},
                        .function = torch::tensor({0, 1, 0, 1}, torch::kLong)};
  EXPECT_NEAR(specialise(four, kPlain).precision[0][0].item<double>(), (1 + 2.0 / 3) / 2, 1e-12);
}

TEST(Specialisation, TokensOfOneWindowAreNoIndependentEvidence) {
  // Every window has a level of its own that has nothing to do with its function.
  auto activity = noise(60);
  activity.norms[0] = torch::rand({40, 60}).repeat_interleave(10, 0) + 0.1 * activity.norms[0];
  EXPECT_GT(specialise(activity, kPlain).share(), 0.2);
  auto by_window = kPlain;
  by_window.by_window = true;
  EXPECT_LT(specialise(activity, by_window).share(), 0.05);
}

TEST(Specialisation, ANeuronThatHearsAnIdIsNoneOfAFunctionThatUsesIt) {
  auto activity = noise(20);
  // The second function has the last id much more often, and the first neuron hears that.
  activity.id.slice(0, 200, 400, 2).fill_(4);
  activity.norms[0].select(1, 0).add_(activity.id.eq(4).to(torch::kFloat));
  auto o = SpecialisationOptions{.beyond_ids = false};
  EXPECT_TRUE(specialise(activity, o).special[1][0].item<bool>());
  o.beyond_ids = true;
  EXPECT_FALSE(specialise(activity, o).special[1][0].item<bool>());
}

TEST(Specialisation, RefusesOneFunctionAndNoShuffles) {
  auto one = noise(2);
  EXPECT_THROW(specialise(one, {.shuffles = 1}), Error);
  one.names = {"a"};
  EXPECT_THROW(specialise(one), Error);
}

}  // namespace
}  // namespace cajal::surgery
