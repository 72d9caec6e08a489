#include "tiny.h"

namespace cajal::lm {
namespace {

using namespace testing;

TEST(Mask, PaddingOnTheRightChangesNothingBeforeIt) {
  for (const auto& json : {tiny_llama(), tiny_mistral(), tiny_gpt2(), tiny_bert(), tiny_opt()}) {
    auto model = tiny_model(json);
    const torch::NoGradGuard no_grad;
    const auto ids = some_ids(2, 10);
    Pass pass;
    pass.mask = torch::ones({2, 14}, torch::kLong);
    pass.mask.slice(1, 10).zero_();
    const auto padded = torch::cat({ids, some_ids(2, 4)}, 1);
    EXPECT_LE(difference(model->forward(padded, pass).slice(1, 0, 10), model->forward(ids)), 1e-5)
        << json.at("model_type");
  }
}

TEST(Mask, PaddingOnTheLeftMovesOptAlong) {
  auto model = tiny_model(tiny_opt());
  const torch::NoGradGuard no_grad;
  const auto ids = some_ids(1, 10);
  Pass pass;
  pass.mask = torch::ones({1, 13}, torch::kLong);
  pass.mask.slice(1, 0, 3).zero_();
  const auto padded = torch::cat({some_ids(1, 3), ids}, 1);
  EXPECT_LE(difference(model->forward(padded, pass).slice(1, 3), model->forward(ids)), 1e-5);
}

TEST(Mask, LeftPaddingNeverMakesNaN) {
  auto model = tiny_model(tiny_llama());
  const torch::NoGradGuard no_grad;
  Pass pass;
  pass.mask = torch::ones({2, 8}, torch::kLong);
  pass.mask[0].slice(0, 0, 5).zero_();
  EXPECT_TRUE(model->forward(some_ids(2, 8), pass).isfinite().all().item<bool>());
}

TEST(Mask, OfAnotherLengthIsRefused) {
  auto model = tiny_model(tiny_llama());
  Pass pass;
  pass.mask = torch::ones({1, 9}, torch::kLong);
  EXPECT_EQ(message([&] { model->forward(some_ids(1, 8), pass); }),
            "attention_mask is [1, 9], expected [batch, 8]");
}

TEST(Forward, RefusesIdsOutOfRange) {
  auto model = tiny_model(tiny_llama());
  EXPECT_EQ(message([&] {
              model->forward(torch::full({1, 3}, 50, torch::kLong));
            }),
            "token ids hold 50, expected 0 to 49 (the vocabulary)");
  EXPECT_EQ(message([&] {
              model->forward(torch::full({1, 3}, -1, torch::kLong));
            }),
            "token ids hold -1, expected 0 to 49 (the vocabulary)");
  EXPECT_EQ(message([&] {
              model->forward(torch::zeros({1, 0}, torch::kLong));
            }),
            "token ids are [1, 0], expected [batch, tokens] with at least one token");
}

TEST(Forward, RobertaCountsPositionsFromThePaddingId) {
  Json json = tiny_bert();
  json["model_type"] = "roberta";
  auto model = tiny_model(json);
  const torch::NoGradGuard no_grad;
  const auto ids = torch::tensor({{5, 6, 7}}), padded = torch::tensor({{1, 1, 5, 6, 7}});
  Pass pass;
  pass.mask = torch::tensor({{0, 0, 1, 1, 1}});
  EXPECT_LE(difference(model->forward(padded, pass).slice(1, 2), model->forward(ids)), 1e-5);
}

}  // namespace
}  // namespace cajal::lm
