#include <gtest/gtest.h>

#include <cmath>

#include "cajal/core/error.h"
#include "cajal/models/diffusion/schedule.h"

namespace cajal::diffusion {
namespace {

using torch::Tensor;

TEST(CrossAttention, EqualsALoopOverHeadsAndPositions) {
  torch::manual_seed(1);
  CrossAttention module(
      CrossAttentionOptions{.width = 6, .context_width = 5, .heads = 2, .inner = 8});
  const torch::NoGradGuard no_grad;
  const auto x = torch::randn({2, 3, 6}), context = torch::randn({2, 4, 5});
  const auto y = module->forward(x, context);
  for (int64_t b = 0; b < 2; ++b)
    for (int64_t p = 0; p < 3; ++p) {
      auto mixed = torch::zeros({8});
      const auto q = torch::mv(module->query, x[b][p]);
      for (int64_t h = 0; h < 2; ++h) {
        const auto of = [&](const Tensor& v) { return v.slice(0, 4 * h, 4 * h + 4); };
        std::vector<Tensor> scores;
        for (int64_t w = 0; w < 4; ++w)
          scores.push_back(torch::dot(of(q), of(torch::mv(module->key, context[b][w]))) / 2.0);
        const auto share = torch::softmax(torch::stack(scores), 0);
        for (int64_t w = 0; w < 4; ++w)
          of(mixed).add_(share[w] * of(torch::mv(module->value, context[b][w])));
      }
      const auto expected = torch::mv(module->output, mixed) + module->output_bias;
      EXPECT_LT((y[b][p] - expected).abs().max().item<double>(), 1e-5);
    }
}

TEST(Schedule, KeepsTheCosineAndFalls) {
  const Schedule schedule({.steps = 50});
  const auto curve = [](double t) {
    return std::pow(std::cos((t / 50 + 0.008) / 1.008 * M_PI / 2), 2);
  };
  for (int64_t t = 0; t < 49; ++t) {
    EXPECT_NEAR(schedule.kept[t].item<double>(), curve(static_cast<double>(t + 1)) / curve(0),
                1e-4);
    EXPECT_GT(schedule.kept[t].item<float>(), schedule.kept[t + 1].item<float>());
  }
  const auto x = torch::ones({1, 1, 2, 2}), e = torch::full({1, 1, 2, 2}, 2.0);
  const double a = schedule.kept[7].item<double>();
  EXPECT_NEAR(schedule.noised(x, torch::tensor({7}, torch::kLong), e).max().item<double>(),
              std::sqrt(a) + 2 * std::sqrt(1 - a), 1e-5);
  EXPECT_THROW(Schedule({.steps = 0}), Error);
}

TextToImage tiny() {
  torch::manual_seed(2);
  return TextToImage(TextToImageOptions{.size = 10,
                                        .channels = {4, 8, 8},
                                        .blocks = 2,
                                        .groups = 2,
                                        .time = 4,
                                        .time_hidden = 8,
                                        .heads = 2,
                                        .inner = 4,
                                        .vocabulary = 7,
                                        .words = 3,
                                        .text_width = 8});
}

TEST(TextToImage, KeepsShapesThatHalvingDoesNotDivide) {
  auto model = tiny();
  const auto words = torch::randint(7, {2, 3}, torch::kLong);
  const auto y = model->forward(torch::randn({2, 1, 10, 10}), torch::tensor({0.0f, 5.0f}), words);
  EXPECT_EQ(y.sizes(), torch::IntArrayRef({2, 1, 10, 10}));
  EXPECT_EQ(model->attentions.size(), 6u);
}

TEST(TextToImage, RefusesOptionsAndInputsThatDoNotFit) {
  EXPECT_THROW(TextToImage(TextToImageOptions{.channels = {}}), Error);
  EXPECT_THROW(TextToImage(TextToImageOptions{.channels = {12}}), Error);
  EXPECT_THROW(TextToImage(TextToImageOptions{.text_width = 63}), Error);
  auto model = tiny();
  const auto words = torch::zeros({1, 3}, torch::kLong);
  EXPECT_THROW(model->forward(torch::zeros({1, 1, 9, 10}), torch::zeros({1}), words), Error);
  EXPECT_THROW(
      model->forward(torch::zeros({1, 1, 10, 10}), torch::zeros({1}), words.slice(1, 0, 2)), Error);
}

// Were the guess always the true noise of a fixed picture, DDIM would end at that picture: a model
// that guesses zero ends at x / √ᾱ clipped, step by step. Checked against a loop in doubles.
TEST(Sample, DdimIsTheLoopOfItsFormula) {
  auto model = tiny();
  model->eval();
  const Schedule schedule({.steps = 20});
  const auto words = torch::randint(7, {2, 3}, torch::kLong);
  torch::manual_seed(4);
  const auto start = torch::randn({2, 1, 10, 10});
  const auto found = sample(model, schedule, words, start, {.steps = 5, .guidance = 1.7});
  const torch::NoGradGuard no_grad;
  auto x = start;
  const int64_t steps[] = {19, 15, 11, 7, 3};
  for (size_t i = 0; i < 5; ++i) {
    const double a = schedule.kept[steps[i]].item<double>();
    const double next = i < 4 ? schedule.kept[steps[i + 1]].item<double>() : 1;
    const auto t = torch::full({2}, static_cast<double>(steps[i]));
    const auto with = model->forward(x, t, words),
               without = model->forward(x, t, torch::zeros_like(words));
    auto e = without + 1.7 * (with - without);
    const auto clean = ((x - std::sqrt(1 - a) * e) / std::sqrt(a)).clamp(-1, 1);
    e = (x - std::sqrt(a) * clean) / std::sqrt(1 - a);
    x = std::sqrt(next) * clean + std::sqrt(1 - next) * e;
  }
  EXPECT_LT((x - found).abs().max().item<double>(), 1e-4);
}

TEST(Sample, DdpmStaysInRangeAndIsRandom) {
  auto model = tiny();
  model->eval();
  const Schedule schedule({.steps = 6});
  const auto words = torch::zeros({1, 3}, torch::kLong);
  const auto start = torch::randn({1, 1, 10, 10});
  const auto a = sample(model, schedule, words, start, {.sampler = Sampler::ddpm});
  const auto b = sample(model, schedule, words, start, {.sampler = Sampler::ddpm});
  EXPECT_FALSE(torch::equal(a, b));
  EXPECT_LE(a.abs().max().item<float>(), 1.0001f);
  EXPECT_THROW(sample(model, schedule, words, start, {.steps = 7}), Error);
}

}  // namespace
}  // namespace cajal::diffusion
