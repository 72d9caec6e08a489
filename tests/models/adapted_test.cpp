#include "cajal/models/lm/adapted.h"

#include <gtest/gtest.h>

#include "cajal/core/error.h"
#include "cajal/models/lm/checkpoint.h"
#include "core/scratch.h"

namespace {

using namespace cajal;
using lm::AdaptedAttention;

lm::Transformer model_of(const std::string& type) {
  const Json opt = {
      {"model_type", "opt"},           {"hidden_size", 32},          {"ffn_dim", 48},
      {"num_hidden_layers", 2},        {"num_attention_heads", 2},   {"vocab_size", 50},
      {"max_position_embeddings", 32}, {"tie_word_embeddings", true}};
  const Json llama = {{"model_type", "llama"},      {"hidden_size", 32},
                      {"intermediate_size", 48},    {"num_hidden_layers", 2},
                      {"num_attention_heads", 2},   {"num_key_value_heads", 1},
                      {"vocab_size", 50},           {"max_position_embeddings", 32},
                      {"tie_word_embeddings", true}};
  const Json gpt2 = {{"model_type", "gpt2"}, {"n_embd", 32}, {"n_layer", 2},
                     {"n_inner", 48},        {"n_head", 2},  {"vocab_size", 50},
                     {"n_positions", 32}};
  auto model = lm::initialise(lm::config_from_json(type == "opt"     ? opt
                                                   : type == "llama" ? llama
                                                                     : gpt2,
                                                   "test"),
                              1, 0.2);
  model->eval();
  return model;
}

torch::Tensor ids() {
  torch::manual_seed(4);
  return torch::randint(50, {3, 24}, torch::kLong);
}

// Corrections that are 0 at the start would show nothing.
lm::Adapted adapted(const std::string& type, lm::AdapterOptions options) {
  lm::Adapted out(model_of(type), options, 3);
  torch::manual_seed(5);
  const torch::NoGradGuard no_grad;
  for (auto& item : out->named_parameters())
    if (item.key().ends_with("_right")) item.value().normal_(0, 0.05);
  out->eval();
  return out;
}

lm::AdapterOptions lora(AdaptedAttention attention = AdaptedAttention::dense) {
  return {.rank = 3, .blocks = 0, .attention = attention};
}

torch::Tensor logits(lm::Adapted model) {
  const torch::NoGradGuard no_grad;
  return model->forward(ids());
}

double difference(const torch::Tensor& a, const torch::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

std::vector<torch::Tensor> gradients(lm::Adapted model) {
  const auto input = ids();
  model->loss(input.narrow(1, 0, 23), input.narrow(1, 1, 23)).backward();
  std::vector<torch::Tensor> out;
  for (const auto& parameter : model->trainable()) out.push_back(parameter.grad().clone());
  return out;
}

class AdaptedOf : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Families, AdaptedOf, testing::Values("opt", "llama", "gpt2"));

TEST_P(AdaptedOf, WithoutCorrectionsItComputesWhatTheModelDoes) {
  const torch::NoGradGuard no_grad;
  auto model = model_of(GetParam());
  const auto expected = model->forward(ids()).flatten(0, 1);
  lm::Adapted tuned(model, lora(), 1);
  tuned->eval();
  EXPECT_LT(difference(tuned->forward(ids()), expected), 1e-4);
}

TEST_P(AdaptedOf, CorrectionsFoldIntoAModelThatComputesTheSame) {
  const torch::NoGradGuard no_grad;
  auto tuned = adapted(GetParam(), lora());
  auto merged = tuned->merged();
  const auto expected = logits(tuned);
  EXPECT_GT(difference(model_of(GetParam())->forward(ids()).flatten(0, 1), expected), 1e-2);
  EXPECT_LT(difference(merged->forward(ids()).flatten(0, 1), expected), 1e-4);
}

TEST_P(AdaptedOf, ChunkedAndRecomputedTuningHaveTheSameGradients) {
  auto options = lora();
  const auto plain = gradients(adapted(GetParam(), options));
  options.recompute = true;
  const auto again = gradients(adapted(GetParam(), options));
  const auto chunked = gradients(adapted(GetParam(), lora(AdaptedAttention::chunked)));
  ASSERT_EQ(plain.size(), again.size());
  for (size_t i = 0; i < plain.size(); ++i) {
    EXPECT_LT(difference(plain[i], again[i]), 1e-5) << i;
    EXPECT_LT(difference(plain[i], chunked[i]), 1e-5) << i;
  }
}

TEST_P(AdaptedOf, SparseAttentionOverEveryKeyIsDense) {
  auto options = lora(AdaptedAttention::sparse);
  options.keys = 32, options.clamp = 0;
  auto sparse = adapted(GetParam(), options), dense = adapted(GetParam(), lora());
  {  // codebooks were drawn between the corrections of one of them
    const torch::NoGradGuard no_grad;
    const auto theirs = sparse->named_parameters();
    for (auto& item : dense->named_parameters()) item.value().copy_(theirs[item.key()]);
  }
  EXPECT_LT(difference(logits(sparse), logits(dense)), 1e-4);
}

TEST_P(AdaptedOf, SptTunesWhatItAddsAndNothingElse) {
  auto tuned = adapted(GetParam(), {.rank = 3, .balance = 0.01});
  tuned->train();
  for (const auto& gradient : gradients(tuned))
    EXPECT_TRUE(torch::isfinite(gradient).all().item<bool>());
  for (const auto& item : tuned->named_parameters()) {
    if (!item.key().ends_with("codebooks") && !item.key().ends_with("router")) continue;
    EXPECT_GT(item.value().grad().abs().sum().item<double>(), 0) << item.key();
  }
  EXPECT_THROW(tuned->merged(), Error);
}

TEST_P(AdaptedOf, AFolderWithAdaptersLoadsAsItWasAndIsRefusedAsAPlainModel) {
  class Folder : public Scratch {
    void TestBody() override {}

   public:
    using Scratch::in;
  } folder;
  auto model = model_of(GetParam());
  lm::save(model, folder.in("m"), Dtype::f32);
  auto tuned = adapted(GetParam(), {.rank = 3});
  lm::save_adapters(tuned, folder.in("m"));
  ASSERT_TRUE(lm::has_adapters(folder.in("m")));
  EXPECT_LT(difference(logits(lm::load_adapted(folder.in("m"))), logits(tuned)), 1e-5);
  EXPECT_THROW(lm::load(folder.in("m")), Error);
}

TEST(Adapted, EvaluatesAsThePlainModelDoes) {
  auto model = model_of("opt");
  std::vector<int32_t> text;
  for (int i = 0; i < 203; ++i) text.push_back(i * i % 50);
  const double plain = lm::evaluate(model, text, 203, 16, 3).nats;
  lm::Adapted tuned(model, lora(), 1);
  EXPECT_NEAR(lm::evaluate(tuned, text, 203, 16, 3).nats, plain, 1e-2);
}

TEST(Adapted, RefusesOptionsThatDoNotFitTheModel) {
  const auto refused = [](lm::AdapterOptions options) {
    EXPECT_THROW(lm::Adapted(model_of("opt"), options, 1), Error);
  };
  refused({.blocks = 5});
  refused({.active = 5});
  refused({.rank = 0});
  refused({.rank = -1});
  refused({.keys = 33});
  refused({.quantiser_every = 0});
  refused({.recompute = true});
}

}  // namespace
