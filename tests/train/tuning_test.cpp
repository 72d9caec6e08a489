#include "cajal/train/tuning.h"

#include <gtest/gtest.h>

#include <numeric>

#include "cajal/core/error.h"
#include "cajal/models/lm/checkpoint.h"
#include "cajal/train/recall_tuning.h"

namespace cajal::train {
namespace {

TEST(Windows, AreOfTheTextWithTheTokensThatFollow) {
  std::vector<int32_t> text(50);
  std::iota(text.begin(), text.end(), 100);
  const auto batch = windows(text, 8, 3, 1);
  const auto [ids, targets] = batch(5);
  EXPECT_EQ(ids.sizes(), (std::vector<int64_t>{3, 8}));
  EXPECT_TRUE((ids + 1).equal(targets));
  EXPECT_GE(ids.min().item<int64_t>(), 100);
  EXPECT_LT(targets.max().item<int64_t>(), 150);
  EXPECT_TRUE(batch(5).first.equal(ids));
  EXPECT_FALSE(batch(6).first.equal(ids));
  EXPECT_THROW(windows(std::span(text).first(8), 8, 3, 1), Error);
}

TEST(RecallTuning, AsksOnlyForWhatFollowsQueriedKeys) {
  const data::AssocRecallOptions o{.pairs = 2, .queries = 2, .tokens = 16};
  const auto [ids, targets] = recall_batches(o, 3, 1)(0);
  EXPECT_EQ(targets.ne(-100).sum().item<int64_t>(), 6);
  EXPECT_FALSE(recall_batches(o, 3, 1)(1).first.equal(ids));
}

TEST(RecallTuning, AnUntrainedModelRecallsNothing) {
  const data::AssocRecallOptions o{.pairs = 2, .queries = 2, .tokens = 16};
  lm::Adapted model(
      lm::initialise(lm::config_from_json({{"model_type", "gpt2"},
                                           {"n_embd", 16},
                                           {"n_layer", 1},
                                           {"n_inner", 24},
                                           {"n_head", 2},
                                           {"vocab_size", 96},
                                           {"n_positions", 16}},
                                          "test"),
                     1),
      lm::AdapterOptions{.rank = 2, .blocks = 0, .attention = lm::AdaptedAttention::dense}, 1);
  EXPECT_LT(recalled(model, o, 70), 0.2);
  EXPECT_THROW(recalled(model, o, 0), Error);
}

}  // namespace
}  // namespace cajal::train
