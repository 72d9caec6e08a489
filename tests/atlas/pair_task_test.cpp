#include "cajal/atlas/pair_task.h"

#include <gtest/gtest.h>

#include "cajal/core/error.h"

namespace cajal::atlas {
namespace {

PairTaskOptions tiny(int64_t steps) {
  return {.model = {{"model_type", "opt"},
                    {"hidden_size", 16},
                    {"word_embed_proj_dim", 16},
                    {"num_hidden_layers", 2},
                    {"num_attention_heads", 2},
                    {"ffn_dim", 32},
                    {"vocab_size", 2},
                    {"max_position_embeddings", 6}},
          .tokens = 6,
          .steps = steps,
          .batch = 16,
          .samples = 3};
}

TEST(PairTask, EveryMeasureIsAskedOfEveryRow) {
  const auto found = study_pairs(tiny(4), 1);
  EXPECT_EQ(found.scores.size(), 7u);
  EXPECT_GE(found.layer, 0);
  EXPECT_LT(found.layer, 2);
  for (const auto& [name, score] : found.scores) {
    EXPECT_GE(score.share, 0) << name;
    EXPECT_LE(score.share, 1) << name;
    if (name == "gradient x input") continue;
    EXPECT_GE(score.rank, 1) << name;
    EXPECT_LE(score.rank, 6) << name;
  }
}

TEST(PairTask, TheSameSeedFindsTheSame) {
  const auto a = study_pairs(tiny(4), 2), b = study_pairs(tiny(4), 2);
  EXPECT_EQ(a.accuracy, b.accuracy);
  EXPECT_EQ(a.scores.at("before the FFN").share, b.scores.at("before the FFN").share);
}

TEST(PairTask, RefusesTextsTooShortForAPair) {
  auto options = tiny(1);
  options.tokens = 3;
  EXPECT_THROW(study_pairs(options, 0), Error);
}

}  // namespace
}  // namespace cajal::atlas
