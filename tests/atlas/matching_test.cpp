#include "cajal/atlas/matching.h"

#include <gtest/gtest.h>

#include "cajal/core/error.h"
#include "cajal/models/lm/checkpoint.h"

namespace cajal::atlas {
namespace {

lm::Transformer small(uint64_t seed, int64_t neurons = 24) {
  return lm::initialise(lm::config_from_json({{"model_type", "opt"},
                                              {"hidden_size", 16},
                                              {"word_embed_proj_dim", 16},
                                              {"num_hidden_layers", 2},
                                              {"num_attention_heads", 2},
                                              {"ffn_dim", neurons},
                                              {"vocab_size", 40},
                                              {"max_position_embeddings", 16}},
                                             "test"),
                        seed, 0.3);
}

std::vector<int32_t> text() {
  std::vector<int32_t> out;
  for (int32_t t = 0; t < 160; ++t) out.push_back((t * t * 7 + t * 3) % 40);
  return out;
}

TEST(Matching, AModelMatchesItselfInEveryWay) {
  auto model = small(1);
  const auto found = match_otherwise(model, model, text(), 16);
  EXPECT_EQ(found.overlap.size(0), 48);
  const auto fires = found.overlap.diagonal() > 0;
  EXPECT_GT(fires.sum().item<int64_t>(), 40);
  EXPECT_TRUE(found.overlap.diagonal().masked_select(fires).eq(1).all().item<bool>());
  EXPECT_LE((found.keys.diagonal() - 1).abs().max().item<double>(), 1e-5);
  EXPECT_LE((found.same_index.masked_select(fires) - 1).abs().max().item<double>(), 1e-5);
}

TEST(Matching, RefusesModelsOfOtherShapes) {
  auto a = small(1), b = small(1, 32);
  EXPECT_THROW(match_otherwise(a, b, text(), 16), Error);
}

// The value row of one neuron is set along a head's query direction for the begin token.
TEST(HeadSwitches, APlantedOneIsFoundAndMovesAttentionAsItsScoreSays) {
  auto model = small(2);
  const auto ids = torch::randint(1, 40, {4, 16}, torch::kLong);
  ids.select(1, 0).fill_(0);
  const torch::NoGradGuard no_grad;
  const auto before = head_switches(model, ids, 1);
  ASSERT_EQ(before.size(), 1u);
  const auto& n = before[0];
  // The same neuron with five times its value row scores five times as high.
  model->blocks[0].ffn.groups[0].value.stored().select(1, n.neuron) *= 5;
  const auto after = head_switches(model, ids, 1);
  EXPECT_EQ(after[0].neuron, n.neuron);
  EXPECT_EQ(after[0].head, n.head);
  EXPECT_GT(std::abs(after[0].score), 3 * std::abs(n.score));
  EXPECT_TRUE(after[0].as_the_score_says());
}

}  // namespace
}  // namespace cajal::atlas
