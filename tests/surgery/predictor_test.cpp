#include "cajal/surgery/predictor.h"

#include <gtest/gtest.h>

#include "cajal/core/error.h"
#include "cajal/surgery/inputs.h"
#include "models/tiny.h"

namespace cajal::surgery {
namespace {

// A predictor of 8 neurons, what they read, and which of them fire: as it says, but for noise.
struct Subject {
  Subject() {
    torch::manual_seed(3);
    predictor.down = torch::randn({4, 16}), predictor.up = torch::randn({8, 4});
    predictor.shift = torch::zeros({8});
    x = torch::randn({400, 16});
    const auto score = torch::matmul(torch::matmul(x, predictor.down.t()), predictor.up.t());
    fires = score + 4 * torch::randn_like(score) > 6;
  }
  Predictor predictor;
  torch::Tensor x, fires;
};

TEST(PredictorAtRecall, FindsTheShareThatIsAskedFor) {
  const Subject s;
  for (const double recall : {0.5, 0.9, 0.99, 1.0}) {
    const auto set = at_recall(s.predictor, s.x, s.fires, recall);
    const auto found = set.fires(s.x, 0.5) & s.fires;
    const double share = found.sum().item<double>() / s.fires.sum().item<double>();
    EXPECT_NEAR(share, recall, 0.01);
    EXPECT_DOUBLE_EQ(share, set.recall);
  }
}

TEST(PredictorAtRecall, GuessesMoreNeuronsToFindMore) {
  const Subject s;
  double before = 0;
  for (const double recall : {0.5, 0.9, 1.0}) {
    const double density = at_recall(s.predictor, s.x, s.fires, recall).density;
    EXPECT_GT(density, before);
    before = density;
  }
}

TEST(PredictorAtRecall, StaysAsItIsWhereNothingFires) {
  const Subject s;
  const auto set = at_recall(s.predictor, s.x, torch::zeros_like(s.fires), 0.9);
  EXPECT_TRUE(torch::equal(set.shift, s.predictor.shift));
}

TEST(PredictorThreshold, GuessesTheShareThatIsAskedFor) {
  auto json = lm::testing::tiny_opt();
  auto model = lm::testing::tiny_model(json);
  std::vector<int32_t> text;
  for (int32_t i = 0; i < 512; ++i) text.push_back((i * i + 3 * i) % 50);
  std::vector<Predictor> predictors;
  for (const auto& block : model->blocks)
    predictors.push_back({torch::randn({4, model->config.width}),
                          torch::randn({block.ffn.groups[0].neurons(), 4}),
                          torch::zeros({block.ffn.groups[0].neurons()}), 0, 0});
  for (const double share : {0.1, 0.25}) {
    const double threshold = threshold_for(model, predictors, text, share, 512);
    double guessed = 0;
    visit_inputs(model, text, 512, [&](size_t l, const torch::Tensor& x) {
      guessed += predictors[l].fires(x, threshold).to(torch::kFloat).mean().item<double>() /
                 static_cast<double>(predictors.size());
    });
    EXPECT_NEAR(guessed, share, 0.01);
  }
  EXPECT_THROW(threshold_for(model, predictors, text, 1), Error);
}

TEST(Firing, IsOfLawsThatAreExactlyZero) {
  std::vector<int32_t> text(64, 7);
  auto silent = lm::testing::tiny_model(lm::testing::tiny_opt());
  EXPECT_EQ(firing(silent, text, 64).size(), silent->blocks.size());
  auto smooth = lm::testing::tiny_model(lm::testing::tiny_llama());
  EXPECT_THROW(firing(smooth, text, 64), Error);
}

TEST(PredictorAtRecall, RefusesARecallThatIsNone) {
  const Subject s;
  EXPECT_THROW(at_recall(s.predictor, s.x, s.fires, 0), Error);
  EXPECT_THROW(at_recall(s.predictor, s.x, s.fires, 1.5), Error);
}

}  // namespace
}  // namespace cajal::surgery
