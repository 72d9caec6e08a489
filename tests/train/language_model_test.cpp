#include "cajal/train/language_model.h"

#include <gtest/gtest.h>

#include "cajal/models/lm/checkpoint.h"
#include "cajal/train/trainer.h"
#include "core/scratch.h"

namespace {

using namespace cajal;
using namespace cajal::train;

Json opt() {
  return {{"model_type", "opt"},
          {"hidden_size", 32},
          {"word_embed_proj_dim", 32},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"ffn_dim", 64},
          {"vocab_size", 300},
          {"max_position_embeddings", 32},
          {"activation_function", "relu"},
          {"do_layer_norm_before", true}};
}
Json llama() {
  return {{"model_type", "llama"},      {"hidden_size", 32},
          {"intermediate_size", 48},    {"num_hidden_layers", 2},
          {"num_attention_heads", 4},   {"num_key_value_heads", 2},
          {"vocab_size", 300},          {"max_position_embeddings", 32},
          {"tie_word_embeddings", true}};
}
Json gpt2() {
  return {{"model_type", "gpt2"}, {"n_embd", 32},      {"n_layer", 2},
          {"n_head", 4},          {"vocab_size", 300}, {"n_positions", 32}};
}

class TrainingLossOf : public testing::TestWithParam<Json> {};

TEST_P(TrainingLossOf, EqualsTheForwardPassAndItsGradient) {
  auto model = lm::initialise(lm::config_from_json(GetParam(), "test"), 1, 0.2);
  lm::TrainingLoss loss(model);
  ASSERT_TRUE(loss.direct());
  const auto ids = torch::randint(300, {3, 20}, torch::kLong);
  const auto targets = torch::randint(300, {3, 20}, torch::kLong);
  targets[1][4] = -100;
  const auto gradients = [&](const torch::Tensor& value) {
    for (auto& p : model->parameters()) p.mutable_grad().reset();
    value.backward();
    std::vector<torch::Tensor> parts;
    for (auto& p : model->parameters()) parts.push_back(p.grad().flatten().clone());
    return torch::cat(parts);
  };
  const auto fast = loss(ids, targets);
  const auto plain = ops::cross_entropy(model->forward(ids).flatten(0, 1), targets.flatten());
  EXPECT_NEAR(fast.item<double>(), plain.item<double>(), 1e-5);
  EXPECT_TRUE(torch::allclose(gradients(fast), gradients(plain), 1e-3, 1e-6));
}

INSTANTIATE_TEST_SUITE_P(Families, TrainingLossOf, testing::Values(opt(), llama(), gpt2()),
                         [](const auto& info) {
                           return info.param.at("model_type").template get<std::string>();
                         });

TEST_P(TrainingLossOf, AddsThePenaltyOnWhatItsNeuronsPutOut) {
  auto model = lm::initialise(lm::config_from_json(GetParam(), "test"), 1, 0.2);
  lm::TrainingLoss loss(model);
  const auto ids = torch::randint(300, {3, 20}, torch::kLong);
  double activity = 0;
  lm::Hooks hooks;
  hooks.add("blocks.*.mlp.hook_post", [&](auto, const auto& post) {
    activity += post.abs().mean().template item<double>();
    return torch::Tensor();
  });
  model->forward(ids, {.hooks = &hooks});
  const double plain = loss(ids, ids).item<double>();
  EXPECT_NEAR(loss(ids, ids, torch::tensor(0.5f)).item<double>(), plain + 0.5 * activity, 1e-5);
}

TEST(Sparsity, ThePenaltyRisesInStagesAlongASine) {
  const SparsityOptions stages{.weights = {1, 3}, .steps = {10, 20}};
  EXPECT_EQ(penalty_at(stages, 0), 0);
  EXPECT_NEAR(penalty_at(stages, 5), std::sqrt(0.5), 1e-12);
  EXPECT_EQ(penalty_at(stages, 10), 1);
  EXPECT_NEAR(penalty_at(stages, 15), 1 + 2 * std::sqrt(0.5), 1e-12);
  EXPECT_EQ(penalty_at(stages, 20), 3);
  EXPECT_EQ(penalty_at(stages, 1000), 3);
  EXPECT_EQ(penalty_at({}, 7), 0);
}

TEST(Sparsity, RefusesStagesThatDoNotRise) {
  EXPECT_THROW(check(SparsityOptions{.weights = {1, 2}, .steps = {10, 10}}), Error);
  EXPECT_THROW(check(SparsityOptions{.weights = {1}, .steps = {10, 20}}), Error);
  EXPECT_THROW(check(SparsityOptions{.weights = {-1}, .steps = {10}}), Error);
}

class LanguageModel : public Scratch {
 protected:
  LanguageModel() {
    std::string text;
    for (int i = 0; i < 400; ++i)
      text += fmt::format("line {} says that {} and {} make {}.\n", i, i % 7, i % 5, i % 7 + i % 5);
    train_text = put("train.txt", text).string();
    valid_text = put("valid.txt", text.substr(0, 2000)).string();
  }

  LanguageModelOptions options(int64_t steps) const {
    LanguageModelOptions options;
    options.model = opt();
    options.data.train = train_text;
    options.data.valid = options.data.test = valid_text;
    options.data.tokenizer = {{"train", {{"vocabulary", 300}}}};
    options.batch = 8;
    options.dtype = "f32";
    options.trainer.steps = steps;
    options.trainer.learning_rate = 1e-2;
    options.trainer.save_every = 3;
    return options;
  }

  std::string train_text, valid_text;
};

TEST_F(LanguageModel, LearnsAndLeavesAFolderThatLoads) {
  const auto report = train_language_model(options(40), {in("out"), false, "cpu"});
  EXPECT_LT(report.at("valid").at("bits_per_byte").get<double>(), 2.2);
  EXPECT_EQ(report.at("tokens"), 40 * 8 * 32);
  auto model = lm::load(in("out"));
  lm::TrainingLoss loss(model);
  const auto tokenizer = text::Tokenizer::open(in("out"));
  const auto tokens = TokenFile::of(valid_text, tokenizer, 1, in("cache"));
  EXPECT_NEAR(evaluate(loss, tokens, 32, 4, torch::kCPU).json().at("loss").get<double>(),
              report.at("test").at("loss").get<double>(), 1e-4);
  EXPECT_NE(read_file(in("out") / "README.md").find("bits per byte, test"), std::string::npos);
}

TEST_F(LanguageModel, EvaluationPredictsEveryTokenButTheFirstOnce) {
  train_language_model(options(1), {in("out"), false, "cpu"});
  auto model = lm::load(in("out"));
  lm::TrainingLoss loss(model);
  const auto tokens = TokenFile::of(valid_text, text::Tokenizer::open(in("out")), 1, in("cache"));
  const auto whole = evaluate(loss, tokens, 16, 100, torch::kCPU);
  EXPECT_EQ(whole.tokens, tokens.size() - 1);
  EXPECT_NEAR(whole.nats, evaluate(loss, tokens, 16, 3, torch::kCPU).nats, 1e-2);
}

TEST_F(LanguageModel, ResumedRunWritesTheSameFileAsAnUnbrokenOne) {
  auto whole = options(8), part = options(3);
  whole.trainer.schedule = part.trainer.schedule = Schedule::constant;
  train_language_model(whole, {in("whole"), false, "cpu"});
  train_language_model(part, {in("parts"), false, "cpu"});
  part.trainer.steps = 8;
  EXPECT_EQ(train_language_model(part, {in("parts"), true, "cpu"}).at("steps"), 8);
  EXPECT_EQ(read_file(in("whole") / "model.safetensors"),
            read_file(in("parts") / "model.safetensors"));
}

TEST_F(LanguageModel, StartsFromACheckpoint) {
  const auto before = train_language_model(options(40), {in("base"), false, "cpu"});
  auto more = options(1);
  more.data.tokenizer = in("base").string();
  more.trainer.learning_rate = 0;
  LanguageModelRun run{in("tuned"), false, "cpu"};
  run.init = in("base");
  const auto report = train_language_model(more, run);
  EXPECT_NEAR(report.at("valid").at("loss").get<double>(),
              before.at("valid").at("loss").get<double>(), 1e-4);
}

TEST_F(LanguageModel, PutsAnotherLawInPlace) {
  auto gelu = options(1);
  gelu.law = "gelu";
  train_language_model(gelu, {in("gelu"), false, "cpu"});
  EXPECT_EQ(lm::load(in("gelu"))->config.law, Activation::gelu);
}

TEST_F(LanguageModel, RefusesAFolderThatHoldsSomethingElse) {
  put("taken", "");
  EXPECT_NE(error_of([&] { train_language_model(options(1), {in("taken"), false, "cpu"}); }), "");
  std::filesystem::create_directory(in("full"));
  put("full/thesis.tex", "x");
  EXPECT_NE(error_of([&] {
              train_language_model(options(1), {in("full"), false, "cpu"});
            }).find("is not empty"),
            std::string::npos);
}

TEST_F(LanguageModel, RefusesUnknownKeysAndTooSmallVocabularies) {
  EXPECT_NE(error_of([] {
              options::parse<LanguageModelOptions>(parse_json(R"({"modle":{}})", "c"), "c");
            }).find("did you mean 'model'"),
            std::string::npos);
  auto small = options(1);
  small.model["vocab_size"] = 100;
  EXPECT_NE(error_of([&] {
              train_language_model(small, {in("out"), false, "cpu"});
            }).find("vocab_size"),
            std::string::npos);
}

TEST_F(LanguageModel, TunesACheckpointWithAdaptersThatFoldIntoItsWeights) {
  const auto base = train_language_model(options(20), {in("base"), false, "cpu"});
  auto tuning = options(20);
  tuning.data.tokenizer = in("base").string();
  tuning.adapters = {.rank = 4, .alpha = 4, .blocks = 0, .attention = lm::AdaptedAttention::dense};
  LanguageModelRun run{in("tuned"), false, "cpu"};
  EXPECT_THROW(train_language_model(tuning, run), Error);  // nothing to start from
  run.init = in("base");
  const auto report = train_language_model(tuning, run);
  EXPECT_LT(report.at("valid").at("loss").get<double>(), base.at("valid").at("loss").get<double>());
  EXPECT_LT(report.at("tuned_parameters").get<int64_t>(), report.at("parameters").get<int64_t>());
  lm::TrainingLoss loss(lm::load(in("tuned")));
  const auto tokens = TokenFile::of(valid_text, text::Tokenizer::open(in("tuned")), 1, in("t"));
  EXPECT_NEAR(evaluate(loss, tokens, 32, 4, torch::kCPU).json().at("loss").get<double>(),
              report.at("valid").at("loss").get<double>(), 1e-3);
}

TEST_F(LanguageModel, TunesBySptAndLeavesTheModelWithItsAdapters) {
  train_language_model(options(20), {in("base"), false, "cpu"});
  auto tuning = options(6);
  tuning.data.tokenizer = in("base").string();
  tuning.adapters = lm::AdapterOptions{.rank = 4, .alpha = 4};
  LanguageModelRun run{in("tuned"), false, "cpu"};
  run.init = in("base");
  const auto report = train_language_model(tuning, run);
  EXPECT_THROW(lm::load(in("tuned")), Error);
  auto model = lm::load_adapted(in("tuned"));
  const auto tokens = TokenFile::of(valid_text, text::Tokenizer::open(in("tuned")), 1, in("t"));
  const auto loss = [&](const torch::Tensor& ids, const torch::Tensor& targets) {
    return model->loss(ids, targets);
  };
  EXPECT_NEAR(evaluate(loss, tokens, 32, 4, torch::kCPU).json().at("loss").get<double>(),
              report.at("valid").at("loss").get<double>(), 1e-3);
}

TEST_F(LanguageModel, RefusesAdaptersThatDoNotFit) {
  train_language_model(options(1), {in("base"), false, "cpu"});
  auto tuning = options(2);
  tuning.data.tokenizer = in("base").string();
  LanguageModelRun run{in("tuned"), false, "cpu"};
  run.init = in("base");
  tuning.adapters = lm::AdapterOptions{.blocks = 7};
  EXPECT_THROW(train_language_model(tuning, run), Error);
  EXPECT_THROW(cajal::options::parse<LanguageModelOptions>(Json{{"adapters", {{"block", 4}}}}),
               Error);
  EXPECT_THROW(
      cajal::options::parse<LanguageModelOptions>(Json{{"adapters", {{"attention", "x"}}}}), Error);
}

}  // namespace
