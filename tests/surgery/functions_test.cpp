#include "cajal/surgery/functions.h"

#include <gtest/gtest.h>

#include "cajal/core/error.h"
#include "cajal/models/lm/checkpoint.h"

namespace {

using namespace cajal;
using namespace cajal::surgery;

lm::Transformer model() {
  auto out = lm::initialise(lm::config_from_json({{"model_type", "opt"},
                                                  {"hidden_size", 16},
                                                  {"ffn_dim", 32},
                                                  {"num_hidden_layers", 2},
                                                  {"num_attention_heads", 2},
                                                  {"vocab_size", 40},
                                                  {"max_position_embeddings", 16},
                                                  {"tie_word_embeddings", true}},
                                                 "test"),
                            1, 0.3);
  out->eval();
  return out;
}

FunctionText text(const std::string& name, int32_t first, int32_t count) {
  FunctionText out{.name = name, .ids = {}};
  for (int32_t i = 0; i < 64; ++i) out.ids.push_back(first + i * 7 % count);
  return out;
}

TEST(Functions, RecordsTheOutputNormsOfEveryToken) {
  auto of = model();
  const std::vector<FunctionText> texts{text("a", 0, 20), text("b", 20, 20)};
  const auto activity = record(of, texts, 32, 16);
  ASSERT_EQ(activity.norms.size(), 2u);
  EXPECT_EQ(activity.norms[0].size(0), 64);
  EXPECT_EQ(activity.neurons(), 64);
  EXPECT_EQ(activity.window[40].item<int64_t>(), 2);
  EXPECT_EQ(activity.id[40].item<int64_t>(), texts[1].ids[8]);
  lm::Hooks hooks;
  torch::Tensor post;
  hooks.add("blocks.1.mlp.hook_post", [&](auto, const auto& value) {
    post = value;
    return torch::Tensor();
  });
  const torch::NoGradGuard no_grad;
  const auto ids = torch::tensor(texts[1].ids).to(torch::kLong).narrow(0, 0, 16).unsqueeze(0);
  of->forward(ids, {.hooks = &hooks});
  const auto sizes = of->blocks[1].ffn.groups[0].value.decoded().norm(2, 0);
  EXPECT_LT((activity.norms[1].slice(0, 32, 48) - post[0].abs() * sizes).abs().max().item<double>(),
            1e-5);
}

TEST(Functions, KeepingAllNeuronsChangesNothingAndKeepingFewDoes) {
  auto of = model();
  const torch::NoGradGuard no_grad;
  const auto ids = torch::arange(16, torch::kLong).unsqueeze(0);
  const auto whole = of->forward(ids);
  for (const double share : {1.0, 0.05}) {
    lm::Hooks hooks;
    attach_kept(hooks, of, share, KeepRule::largest);
    const auto kept = of->forward(ids, {.hooks = &hooks});
    EXPECT_EQ(kept.allclose(whole, 1e-4, 1e-5), share == 1.0);
  }
  lm::Hooks hooks;
  EXPECT_THROW(attach_kept(hooks, of, 0, KeepRule::largest), Error);
  EXPECT_THROW(attach_kept(hooks, of, 1.5, KeepRule::random), Error);
}

TEST(Pruned, SilencesNeuronsByTheirNumberThroughAllLayers) {
  auto of = model();
  const auto less = pruned(of, torch::tensor({3, 40}, torch::kLong));
  const auto values = [](const lm::Transformer& m, size_t layer) {
    const auto& value = m->blocks[layer].ffn.groups[0].value;
    return value.major() == Major::input ? value.decoded() : value.decoded().t();
  };
  EXPECT_EQ(values(less, 0)[3].abs().sum().item<double>(), 0);
  EXPECT_EQ(values(less, 1)[8].abs().sum().item<double>(), 0);
  EXPECT_TRUE(values(less, 1)[9].equal(values(of, 1)[9]));
  EXPECT_THROW(pruned(of, torch::tensor({64}, torch::kLong)), Error);
}

TEST(Communities, FindsPlantedOnesAndNoneInNoise) {
  torch::manual_seed(4);
  const auto cause = torch::rand({600, 4}).repeat_interleave(8, 1);  // groups of 8 of 32 neurons
  const auto planted = communities(cause + 0.2 * torch::rand({600, 32}), 4, 5);
  EXPECT_GT(planted.z(), 5);
  EXPECT_GT(planted.stability, 0.9);
  EXPECT_GT(planted.within, planted.between + 0.5);
  const auto noise = communities(torch::rand({600, 32}), 4, 5);
  EXPECT_LT(std::abs(noise.z()), 4);
  EXPECT_THROW(communities(torch::rand({60, 32}), 5), Error);
  EXPECT_THROW(communities(torch::rand({60, 32}), 0), Error);
}

}  // namespace
