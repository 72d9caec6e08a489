#include "cajal/surgery/split.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>

#include "cajal/atlas/measure.h"
#include "cajal/core/files.h"
#include "cajal/models/lm/checkpoint.h"
#include "cajal/surgery/errors.h"
#include "cajal/surgery/synthetic.h"
#include "cajal/surgery/write.h"

namespace cajal::surgery {
namespace {

namespace fs = std::filesystem;

Json config(const std::string& family) {
  if (family == "gpt2")
    return {{"model_type", "gpt2"}, {"n_embd", 64},      {"n_layer", 2},  {"n_head", 2},
            {"vocab_size", 50},     {"n_positions", 32}, {"n_inner", 128}};
  if (family == "opt")
    return {{"model_type", "opt"},           {"hidden_size", 64},        {"num_hidden_layers", 2},
            {"num_attention_heads", 2},      {"ffn_dim", 128},           {"vocab_size", 50},
            {"max_position_embeddings", 32}, {"word_embed_proj_dim", 64}};
  return {{"model_type", family},          {"hidden_size", 64},
          {"num_hidden_layers", 2},        {"num_attention_heads", 2},
          {"intermediate_size", 128},      {"vocab_size", 50},
          {"max_position_embeddings", 32}, {"tie_word_embeddings", family != "phi3"}};
}

const std::vector<std::string> kFamilies = {"opt", "gpt2", "llama", "phi3", "gpt_neox"};

std::vector<int32_t> ids(int64_t count) {
  std::vector<int32_t> out;
  for (int64_t t = 0; t < count; ++t) out.push_back(static_cast<int32_t>((t * t + 3 * t) % 50));
  return out;
}

torch::Tensor logits(lm::Transformer& model) {
  torch::NoGradGuard no_grad;
  const auto text = ids(24);
  return model->forward(
      torch::tensor(std::vector<int64_t>(text.begin(), text.end())).reshape({2, 12}));
}

double difference(const torch::Tensor& a, const torch::Tensor& b) {
  return (a - b).abs().max().item<double>() / a.abs().max().item<double>();
}

class Split : public testing::Test {
 protected:
  Split() : folder(fs::temp_directory_path() / fmt::format("cajal_split_{}", ::getpid())) {
    fs::create_directories(folder);
  }
  ~Split() override { fs::remove_all(folder); }

  // A saved model of that family.
  fs::path saved(const std::string& family) {
    const auto place = folder / family;
    if (fs::exists(place)) return place;
    auto model = lm::initialise(lm::config_from_json(config(family), "test"), 3, 0.2);
    lm::save(model, place, Dtype::f32);
    write_file(place / "tokenizer.json", "{}");
    return place;
  }
  static atlas::Census census_of(lm::Transformer& model) {
    return atlas::measure(model, ids(64), {.context = 16, .batch = 2, .samples = 4});
  }

  const fs::path folder;
};

TEST_F(Split, IsTheSameFunctionInEveryFamily) {
  for (const auto& family : kFamilies) {
    auto dense = lm::load(saved(family)), changed = lm::load(saved(family));
    const auto census = census_of(dense);
    split(changed, make_plan("heavy=f32,rest=f32", census), census);
    EXPECT_EQ(changed->blocks[0].ffn.groups.size(), 2u) << family;
    EXPECT_LT(difference(logits(dense), logits(changed)), 1e-5) << family;
  }
}

TEST_F(Split, IsTheSameFunctionForEveryScoreAndRatio) {
  for (const auto& [law, gated] :
       {std::pair(Activation::relu, false), {Activation::gelu, false}, {Activation::silu, true}}) {
    const auto subject = synthetic_ffn(law, gated, 32, 96, 1, 20, 1);
    atlas::Census census;
    census.layers = {subject.census};
    for (const auto score :
         {Score::hits, Score::mean_norm, Score::energy, Score::weight, Score::random})
      for (const double ratio : {0.0, 0.3, 1.0}) {
        const auto plan = make_plan("heavy=f32,rest=f32", census, {.score = score, .ratio = ratio});
        EXPECT_LT(
            output_error(subject, split(subject.ffn, plan.layers[0], census.layers[0])).largest,
            1e-5);
      }
  }
}

TEST_F(Split, LoadsWhatWasWrittenAsTheSameModel) {
  for (const auto& family : kFamilies) {
    auto model = lm::load(saved(family));
    const auto census = census_of(model);
    split(model, make_plan("heavy=q8_0,rest=q4_0", census), census);
    requantise(model, {.attention = Format::q8_0, .embedding = Format::q8_0});
    const auto place = folder / (family + "-split");
    write(model, saved(family), place);
    auto loaded = lm::load(place);
    EXPECT_TRUE(logits(model).equal(logits(loaded))) << family;
    EXPECT_TRUE(fs::exists(place / "tokenizer.json"));
    EXPECT_EQ(fs::exists(place / "model.safetensors"), true);
  }
}

TEST_F(Split, WritesPlainCheckpointsForUniformFloats) {
  for (const auto& family : kFamilies) {
    auto model = lm::load(saved(family));
    const auto census = census_of(model);
    split(model, make_plan("all=bf16", census), census);
    const auto place = folder / (family + "-bf16");
    write(model, saved(family), place);
    EXPECT_FALSE(read_json(place / "config.json").contains("cajal")) << family;
    auto loaded = lm::load(place);
    EXPECT_TRUE(logits(model).equal(logits(loaded))) << family;
  }
}

TEST_F(Split, CanBeMeasuredAndSplitAgainUnderTheOldNumbers) {
  auto model = lm::load(saved("opt"));
  const auto census = census_of(model);
  split(model, make_plan("heavy=f32,rest=f32", census), census);
  const auto again = census_of(model);
  EXPECT_EQ(again.layers[0].positive, census.layers[0].positive);
  EXPECT_EQ(again.layers[1].key_norm, census.layers[1].key_norm);
  const auto before = logits(model);
  split(model, make_plan("random=f32,rest=f32", again), again);
  EXPECT_LT(difference(before, logits(model)), 1e-5);
}

TEST_F(Split, DroppedNeuronsLeaveTheirMean) {
  for (const std::string family : {"opt", "llama"}) {
    auto dense = lm::load(saved(family)), dropped = lm::load(saved(family));
    const auto census = census_of(dense);
    split(dropped, make_plan("heavy=f32,rest=drop", census, {.ratio = 0.5}), census);
    EXPECT_EQ(dropped->config.neurons, 64);
    const auto place = folder / (family + "-dropped");
    write(dropped, saved(family), place);
    auto loaded = lm::load(place);
    EXPECT_EQ(loaded->config.neurons, 64);
    EXPECT_LT(difference(logits(dropped), logits(loaded)), 1e-6);
    EXPECT_TRUE(loaded->blocks[0].ffn.value_bias.defined());
  }
}

TEST_F(Split, MeanCompensationLowersTheError) {
  const auto subject = synthetic_ffn(Activation::relu, false, 32, 128, 0, 200, 1);
  atlas::Census census;
  census.layers = {subject.census};
  const auto plan = make_plan("heavy=f32,rest=drop", census);
  auto with = split(subject.ffn, plan.layers[0], census.layers[0]);
  auto without = with;
  without.value_bias = subject.ffn.value_bias;
  EXPECT_LT(output_error(subject, with).mean_square,
            0.9 * output_error(subject, without).mean_square);
}

TEST_F(Split, RefusesToDropWhereThereIsNoBiasToKeepTheMean) {
  auto model = lm::load(saved("phi3"));
  const auto census = census_of(model);
  const auto before = logits(model);
  EXPECT_THROW(split(model, make_plan("heavy=f32,rest=drop", census), census), Error);
  EXPECT_TRUE(before.equal(logits(model)));
}

TEST_F(Split, RefusesAPlaceThatIsTaken) {
  auto model = lm::load(saved("opt"));
  fs::create_directories(folder / "taken");
  write_file(folder / "taken" / "mine.txt", "x");
  EXPECT_THROW(write(model, saved("opt"), folder / "taken"), Error);
  EXPECT_EQ(read_file(folder / "taken" / "mine.txt"), "x");
}

TEST_F(Split, RefusesFormatsWhoseBlocksDoNotFit) {
  auto model = lm::load(saved("opt"));
  const auto census = census_of(model);
  EXPECT_THROW(split(model, make_plan("all=q4_K", census), census), Error);
}

TEST_F(Split, SilencedNeuronsWriteNothing) {
  const auto subject = synthetic_ffn(Activation::relu, false, 32, 64, 0, 20, 1);
  std::vector<int32_t> all(64);
  for (int i = 0; i < 64; ++i) all[i] = i;
  auto none = subject.ffn;
  none = silence(none, all);
  const auto y = lm::FeedForward(none).groups[0].value.decoded();
  EXPECT_EQ(y.abs().max().item<float>(), 0);
}

TEST_F(Split, MeasuredErrorsAddUpToWhatASplitReallyLoses) {
  auto model = lm::load(saved("opt"));
  const auto census = census_of(model);
  const auto choices = measure_errors(model, census, ids(64), {.tokens = 64});
  ASSERT_EQ(choices.layers.size(), 2u);
  for (const auto& group : choices.layers[0].groups)
    for (const auto* half : {&group.key, &group.value})
      EXPECT_GT(half->error[0], half->error[3]);  // q4_0 errs more than q8_0
  const auto plan = plan_for_budget(choices, uniform_cost(choices, 2).bytes);
  EXPECT_EQ(plan_bytes(plan, 64, false), cost(choices, plan).bytes);
}

TEST_F(Split, APlanForABudgetComesCloseToItAndNeverErrsMoreThanOneFormatOrTheMix) {
  for (const auto& family : {"opt", "llama"})
    for (const int64_t neurons : {128, 512}) {
      auto settings = config(family);
      settings["num_hidden_layers"] = 3;
      settings[family == std::string("opt") ? "ffn_dim" : "intermediate_size"] = neurons;
      auto model = lm::initialise(lm::config_from_json(settings, "test"), 3, 0.2);
      const auto census = census_of(model);
      const bool gated = model->config.gated;
      const auto in_16_bits = static_cast<double>(2 * 3 * neurons * 64 * (gated ? 3 : 2));
      for (const double share : {0.29, 0.35, 0.41, 0.54, 0.66, 0.97, 1.0}) {
        const auto budget = static_cast<int64_t>(share * in_16_bits);
        const auto best = best_for_budget(model, census, ids(64), budget).best;
        EXPECT_EQ(best.bytes, plan_bytes(best.plan, 64, gated));
        EXPECT_LE(best.bytes, budget);
        EXPECT_NE(best.plan.name.find(fmt::format("{} of {} bytes", best.bytes, budget)),
                  std::string::npos);
        // Groups are of 32 neurons: a step of one of four is more than a hundredth.
        EXPECT_GE(best.bytes, (neurons < 512 ? 0.98 : 0.99) * static_cast<double>(budget))
            << family << " " << neurons << " " << share;
        for (const char* plan_words : {"all=q4_0", "all=q4_1", "all=q5_0", "all=q5_1", "all=q8_0",
                                       "all=bf16", "mix=q5_0,values=q8_0"}) {
          const std::string words = plan_words;
          const auto plain = make_plan(words, census);
          if (plan_bytes(plain, 64, gated) > budget) continue;
          EXPECT_LE(best.error, plan_error(model, plain, census, ids(64)))
              << family << " " << neurons << " " << share << " " << words;
        }
      }
    }
}

TEST_F(Split, GoldenCheckpointsKeepTheirLogits) {
  const char* golden = std::getenv("CAJAL_GOLDEN");
  if (!golden) GTEST_SKIP() << "CAJAL_GOLDEN is not set: reference checkpoints are absent";
  for (const char* family : {"opt", "gpt2", "llama", "bert"}) {
    const auto place = fs::path(golden) / "checkpoints" / family;
    if (!fs::exists(place)) GTEST_SKIP() << place << " is absent";
    auto dense = lm::load(place), changed = lm::load(place);
    const auto census = atlas::measure(dense, ids(48), {.context = 16});
    split(changed, make_plan("heavy=f32,rest=f32", census), census);
    EXPECT_LT(difference(logits(dense), logits(changed)), 1e-5) << family;
    write(changed, place, folder / family);
    auto loaded = lm::load(folder / family);
    EXPECT_LT(difference(logits(dense), logits(loaded)), 1e-5) << family;
  }
}

}  // namespace
}  // namespace cajal::surgery
