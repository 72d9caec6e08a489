#include "cajal/atlas/confidence_control.h"

#include <gtest/gtest.h>

#include "cajal/core/error.h"
#include "cajal/models/lm/checkpoint.h"

namespace cajal::atlas {
namespace {

lm::Transformer small() {
  return lm::initialise(lm::config_from_json({{"model_type", "opt"},
                                              {"hidden_size", 16},
                                              {"word_embed_proj_dim", 16},
                                              {"num_hidden_layers", 2},
                                              {"num_attention_heads", 2},
                                              {"ffn_dim", 24},
                                              {"vocab_size", 40},
                                              {"max_position_embeddings", 16}},
                                             "test"),
                        1, 0.3);
}

std::vector<int32_t> text(int32_t count = 160) {
  std::vector<int32_t> out;
  for (int32_t t = 0; t < count; ++t) out.push_back((t * t * 7 + t * 3) % 40);
  return out;
}

TEST(ConfidenceControl, RepeatedTextSaysItsFirstHalfTwice) {
  const auto model = small();
  const auto ids = repeated_text(model->config, text(), 5, 3);
  const int64_t begins = model->config.begin_id >= 0;
  ASSERT_EQ(ids.size(0), 3);
  ASSERT_EQ(ids.size(1), begins + 9);
  EXPECT_TRUE(ids.slice(1, begins, begins + 4).equal(ids.slice(1, begins + 5)));
  EXPECT_EQ(ids[1][begins].item<int64_t>(), text()[5]);
  EXPECT_THROW(repeated_text(model->config, text(), 100, 2), Error);
}

TEST(ConfidenceControl, HeldNeuronsChangeOnlyWhatComesAfter) {
  auto model = small();
  const auto ids = repeated_text(model->config, text(), 7, 4);
  const auto free = entropies(model, ids), held = entropies(model, ids, {0, 1, 2, 3, 4, 5}, 8);
  EXPECT_TRUE(free.slice(1, 0, 8).equal(held.slice(1, 0, 8)));
  EXPECT_FALSE(free.slice(1, 8).equal(held.slice(1, 8)));
}

TEST(ConfidenceControl, HeadsOfEveryLayerAreAsked) {
  auto model = small();
  const auto ids = repeated_text(model->config, text(), 7, 4);
  const auto heads = heads_behind(model, ids, {0, 1, 2}, 8);
  EXPECT_EQ(heads.size(0), 2);
  EXPECT_EQ(heads.size(1), 2);
  EXPECT_GT(heads.abs().min().item<double>(), 0);
}

TEST(ConfidenceControl, GainOneIsTheModelItselfAndGainZeroTheModelWithout) {
  auto model = small();
  const ConfidenceDial dial(model, text(), 16, 60, {3, 4}), other(model, text(), 16, 60, {5});
  EXPECT_DOUBLE_EQ(dial.score(1, 1).nats, other.score(1, 1).nats);
  const double without = dial.score(0, 1).nats;
  const torch::NoGradGuard no_grad;
  for (const int64_t n : {3, 4}) model->blocks[1].ffn.groups[0].value.stored().select(1, n).zero_();
  EXPECT_NEAR(ConfidenceDial(model, text(), 16, 60, {3, 4}).score(1, 1).nats, without, 1e-5);
  EXPECT_THROW(dial.score(1, 0), Error);
}

TEST(ConfidenceControl, TheLastLayerIsAblatedNeuronByNeuron) {
  auto model = small();
  const auto last = last_layer(model, text(), 16, 60);
  ASSERT_EQ(last.effects.size(), 24u);
  EXPECT_EQ(last.null_share.size(0), 24);
  EXPECT_LE(last.unigram.max().item<double>(), 1 + 1e-9);
}

// KL(unigram || model) by its definition, from logits made anew.
TEST(Ablation, DivergenceIsThatOfTheUnigramFromThePredictions) {
  auto model = small();
  const auto ids = text();
  std::vector<int64_t> counts(40);
  for (const auto id : ids) ++counts[id];
  const auto r = readout(model);
  const auto stream = last_stream(model, ids, 16, 20);
  const Ablation ablation(r, stream, unigram_direction(counts), counts);
  auto p = torch::tensor(counts).to(torch::kDouble) + 1;
  p = p / p.sum();
  const auto log_q = torch::log_softmax(r.logits(stream.stream).to(torch::kDouble), 1);
  const auto divergence = (p * (p.log() - log_q)).sum(1);
  for (int64_t t = 0; t < ablation.tokens(); ++t)
    EXPECT_NEAR(ablation.before()[t].unigram_divergence, divergence[t].item<double>(), 1e-5);
}

}  // namespace
}  // namespace cajal::atlas
