#include "cajal/surgery/function_network.h"

#include <gtest/gtest.h>

#include "cajal/core/error.h"
#include "cajal/models/lm/checkpoint.h"
#include "cajal/surgery/function_world.h"
#include "checks.h"

namespace cajal::surgery {
namespace {

using cajal::testing::difference;

lm::Transformer tiny() {
  auto out = lm::initialise(lm::config_from_json({{"model_type", "gpt2"},
                                                  {"n_embd", 16},
                                                  {"n_layer", 2},
                                                  {"n_inner", 24},
                                                  {"n_head", 2},
                                                  {"vocab_size", 40},
                                                  {"n_positions", 16}},
                                                 "test"),
                            1, 0.3);
  out->eval();
  return out;
}

torch::Tensor logits(lm::Transformer model) {
  const torch::NoGradGuard no_grad;
  return model->forward(torch::arange(24, torch::kLong).view({2, 12}));
}

TEST(FunctionNetwork, KeepsTheBestNeuronsAndComputesWhatTheOthersSilencedWould) {
  const auto model = tiny();
  const auto scores = weight_sizes(model);
  const auto less = network_of(model, scores, 9);
  EXPECT_EQ(less->blocks[1].ffn.groups[0].neurons(), 9);
  std::vector<torch::Tensor> gone;
  for (int64_t l = 0; l < 2; ++l)
    gone.push_back(top_neurons(-scores[static_cast<size_t>(l)], 24 - 9) + l * 24);
  EXPECT_LT(difference(logits(less), logits(pruned(model, torch::cat(gone)))), 1e-5);
  EXPECT_THROW(network_of(model, {scores[0]}, 9), Error);
  EXPECT_THROW(network_of(model, scores, 25), Error);
}

TEST(FunctionNetwork, ScoresAreThoseOfTheFunctionsTokens) {
  FunctionActivity activity{.names = {"a", "b"}};
  activity.function = torch::tensor({0, 0, 1}, torch::kLong);
  activity.norms = {torch::tensor({{1.0f, 0.0f}, {7.0f, 2.0f}, {0.0f, 9.0f}})};
  const auto row = [](float a, float b) { return torch::tensor({a, b}); };
  EXPECT_LT(difference(mean_norms(activity, 0)[0], row(4, 1)), 1e-6);
  EXPECT_LT(difference(wanda_scores(activity, 0)[0], row(5, std::sqrt(2.0f))), 1e-6);
  EXPECT_LT(difference(mean_norms(activity, -1)[0], row(8.0f / 3, 11.0f / 3)), 1e-6);
  EXPECT_LT(difference(use_counts(activity, 0)[0], row(2, 0)), 1e-6);
  EXPECT_THROW(mean_norms(activity, 2), Error);
}

TEST(FunctionWorld, LearnsItsTextsAndLeavesTheUntrainedModelAlone) {
  const auto text = [](const std::string& words) {
    std::string out;
    while (out.size() < 400) out += words;
    return byte_ids(out);
  };
  const FunctionText texts[] = {{"a", text("abab")}, {"b", text("0123")}};
  const train::SmallLanguageOptions options{.width = 16,
                                            .layers = 1,
                                            .heads = 2,
                                            .neurons = 32,
                                            .context = 16,
                                            .steps = 40,
                                            .learning_rate = 1e-2};
  const auto world = make_function_world(texts, options, 32, 3);
  EXPECT_EQ(world.train[1].ids.size(), 320u);
  EXPECT_EQ(world.test[0].ids.size(), 32u);
  EXPECT_LT(world.mean_test_loss(world.model), world.mean_test_loss(world.untrained) / 2);
  const auto again = make_function_world(texts, options, 32, 3);
  EXPECT_EQ(difference(logits(again.model), logits(world.model)), 0);
  EXPECT_THROW(make_function_world(std::span(texts), {.context = 64}, 128, 3), Error);
}

}  // namespace
}  // namespace cajal::surgery
