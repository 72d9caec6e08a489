#include "cajal/surgery/as_memory.h"

#include <gtest/gtest.h>

#include "cajal/core/error.h"
#include "cajal/models/lm/checkpoint.h"
#include "checks.h"

namespace cajal {
namespace {

lm::Transformer small(const char* family) {
  const Json json = {
      {"model_type", family},          {"hidden_size", 16}, {"num_hidden_layers", 2},
      {"num_attention_heads", 2},      {"ffn_dim", 32},     {"intermediate_size", 32},
      {"max_position_embeddings", 16}, {"vocab_size", 20}};
  return lm::initialise(lm::config_from_json(json, "test"), 1, 0.3);
}

TEST(ReadInBlocks, WithEveryBlockReadIsTheDenseModel) {
  auto model = small("opt");
  const torch::NoGradGuard no_grad;
  const auto ids = torch::arange(12).view({1, 12});
  const auto dense = model->forward(ids);
  surgery::read_in_blocks(model, {.block = 8, .active_blocks = 4});
  EXPECT_LT(testing::difference(model->forward(ids), dense), 1e-5);
  surgery::read_in_blocks(model, {.block = 8, .active_blocks = 1});
  EXPECT_GT(testing::difference(model->forward(ids), dense), 1e-3);
}

TEST(ReadInBlocks, RefusesGatedNetworks) {
  auto model = small("llama");
  EXPECT_THROW(surgery::read_in_blocks(model, {.block = 8, .active_blocks = 4}), Error);
}

}  // namespace
}  // namespace cajal
