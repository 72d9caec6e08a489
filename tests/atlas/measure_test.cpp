#include "cajal/atlas/measure.h"

#include <gtest/gtest.h>

#include <limits>

#include "cajal/models/lm/checkpoint.h"

namespace cajal::atlas {
namespace {

lm::Transformer tiny(bool gated) {
  const Json opt = {{"model_type", "opt"},
                    {"hidden_size", 32},
                    {"num_hidden_layers", 3},
                    {"num_attention_heads", 2},
                    {"ffn_dim", 96},
                    {"vocab_size", 64},
                    {"max_position_embeddings", 48},
                    {"word_embed_proj_dim", 32},
                    {"bos_token_id", 1}};
  const Json llama = {{"model_type", "llama"},         {"hidden_size", 32},
                      {"num_hidden_layers", 3},        {"num_attention_heads", 2},
                      {"intermediate_size", 96},       {"vocab_size", 64},
                      {"max_position_embeddings", 48}, {"bos_token_id", 1}};
  return lm::initialise(lm::config_from_json(gated ? llama : opt, "test"), 3, 0.3);
}

std::vector<int32_t> ids(int64_t count) {
  std::vector<int32_t> out;
  for (int64_t t = 0; t < count; ++t) out.push_back(static_cast<int32_t>((t * t + 3 * t) % 64));
  return out;
}

TEST(Measure, FourShardsMergeIntoExactlyTheWhole) {
  for (const bool gated : {false, true}) {
    auto model = tiny(gated);
    const auto text = ids(700);
    MeasureOptions options{
        .context = 16, .batch = 4, .samples = 20, .seed = 5, .tables = true, .orders = 2};
    const auto whole = measure(model, text, options);
    EXPECT_EQ(whole.tokens(), 700);
    EXPECT_TRUE(whole.complete());
    options.shards = 4;
    Census merged;
    for (options.shard = 1; options.shard <= 4; ++options.shard) {
      auto part = measure(model, text, options);
      merged = options.shard == 1 ? part : merge(std::move(merged), part, "a", "b");
    }
    EXPECT_EQ(merged, whole);
  }
}

TEST(Measure, LayerAtATimeGivesTheSameBits) {
  for (const bool gated : {false, true}) {
    auto model = tiny(gated);
    MeasureOptions options{.context = 16, .batch = 3, .samples = 9, .tables = true, .orders = 3};
    const auto whole = measure(model, ids(333), options);
    options.by_layer = true;
    EXPECT_EQ(measure(model, ids(333), options), whole);
  }
}

TEST(Measure, AKilledCensusGoesOnAndEndsInTheSameBits) {
  auto model = tiny(false);
  const MeasureOptions options{.context = 16, .batch = 2, .tables = true, .orders = 2};
  const auto whole = measure(model, ids(600), options);
  struct Kill {};
  Checkpoint checkpoint{.seconds = 0};
  int saves = 0;
  checkpoint.save = [&](const Census& census) {
    checkpoint.begun = census;
    if (++saves == 5) throw Kill();
  };
  EXPECT_THROW(measure(model, ids(600), options, nullptr, checkpoint), Kill);
  EXPECT_LT(checkpoint.begun->tokens(), 600);
  EXPECT_FALSE(checkpoint.begun->complete());
  const Checkpoint again{.begun = checkpoint.begun};
  EXPECT_EQ(measure(model, ids(600), options, nullptr, again), whole);
}

TEST(Measure, AnotherCensusIsNotGoneOnWith) {
  auto model = tiny(false);
  const MeasureOptions options{.context = 16, .batch = 2};
  Checkpoint other;
  other.begun = measure(model, ids(64), options);
  other.begun->covered = {{0, 1}};
  EXPECT_EQ(measure(model, ids(600), options, nullptr, other), measure(model, ids(600), options));
}

TEST(Measure, GatedNeuronsFireWithTheirGate) {
  auto model = tiny(true);
  const auto census = measure(model, ids(30), {.context = 16});
  EXPECT_NE(census.layers[0].fired, census.layers[0].positive);
  auto plain = tiny(false);
  const auto other = measure(plain, ids(30), {.context = 16});
  EXPECT_EQ(other.layers[0].fired, other.layers[0].positive);
}

TEST(Measure, CountsWhatTheHookShows) {
  auto model = tiny(false);
  const auto text = ids(15);  // one window: the begin id takes the sixteenth place
  const auto census = measure(model, text, {.context = 16});
  lm::Hooks hooks;
  torch::Tensor seen;
  hooks.add("blocks.1.mlp.hook_post", [&](std::string_view, const torch::Tensor& value) {
    seen = value[0].slice(0, 1).to(torch::kDouble);
    return torch::Tensor();
  });
  std::vector<int64_t> with_begin = {model->config.begin_id};
  with_begin.insert(with_begin.end(), text.begin(), text.end());
  lm::Pass pass;
  pass.hooks = &hooks;
  torch::NoGradGuard no_grad;
  model->forward(torch::tensor(with_begin).unsqueeze(0), pass);
  const auto& layer = census.layers[1];
  EXPECT_EQ(layer.tokens, 15);
  for (const int64_t i : {0, 40, 95}) {
    EXPECT_NEAR(layer.sum[i].value(), seen.select(1, i).sum().item<double>(), 1e-5);
    EXPECT_EQ(layer.positive[i], (seen.select(1, i) > 0).sum().item<int64_t>());
  }
}

TEST(Measure, KeepsTheActivationsOfSampledTokens) {
  auto model = tiny(false);
  const auto census = measure(model, ids(100), {.context = 16, .samples = 7});
  EXPECT_EQ(census.sample_tokens.size(), 7u);
  for (const auto& layer : census.layers) EXPECT_EQ(layer.samples.size(), 7u * 96);
}

TEST(Measure, RefusesWhatIsNoTextForThisModel) {
  auto model = tiny(true);
  const auto error = [&](const std::vector<int32_t>& text, const MeasureOptions& options) {
    try {
      measure(model, text, options);
    } catch (const Error& caught) {
      return std::string(caught.what());
    }
    return std::string();
  };
  EXPECT_NE(error(ids(1), {}).find("1 tokens, expected 2"), std::string::npos);
  EXPECT_NE(error(ids(20), {.context = 49}).find("2 to 48"), std::string::npos);
  EXPECT_NE(error(ids(20), {.batch = 0}), "");
  EXPECT_NE(error(ids(20), {.shard = 3, .shards = 2}), "");
  EXPECT_NE(error(ids(20), {.shard = 1, .shards = 9}).find("is empty"), std::string::npos);
  EXPECT_NE(error({1, 64}, {}), "");
}

TEST(Measure, NamesTheLayerThatIsNotFinite) {
  auto model = tiny(false);
  {
    torch::NoGradGuard no_grad;
    model->blocks[2].ffn.groups[0].key_bias.fill_(std::numeric_limits<float>::infinity());
  }
  try {
    measure(model, ids(20));
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("layer 2"), std::string::npos) << error.what();
  }
}

TEST(Fingerprint, TellsModelsApart) {
  EXPECT_EQ(fingerprint(tiny(false)), fingerprint(tiny(false)));
  EXPECT_NE(fingerprint(tiny(false)), fingerprint(tiny(true)));
}

}  // namespace
}  // namespace cajal::atlas
