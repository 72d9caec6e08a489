#include "cajal/models/lm/generate.h"

#include "tiny.h"

namespace cajal::lm {
namespace {

using namespace testing;

std::vector<int32_t> greedy_by_full_passes(Transformer& model, std::vector<int32_t> ids,
                                           int count) {
  const torch::NoGradGuard no_grad;
  for (int i = 0; i < count; ++i) {
    const auto input = torch::tensor(ids, torch::kInt).to(torch::kLong).unsqueeze(0);
    ids.push_back(model->forward(input)[0][-1].argmax().item<int32_t>());
  }
  return ids;
}

TEST(Generate, GreedyEqualsFullPasses) {
  for (const auto& json : {tiny_llama(), tiny_mistral(), tiny_gemma3(), tiny_gpt2()}) {
    auto model = tiny_model(json);
    EXPECT_EQ(generate(model, {3, 4, 5}, 30, {}), greedy_by_full_passes(model, {3, 4, 5}, 30))
        << json.at("model_type");
  }
}

TEST(Generate, LongropeStaysExactPastItsOriginalContext) {
  Json json = tiny_phi3();
  json.update({{"original_max_position_embeddings", 16},
               {"rope_scaling",
                {{"type", "longrope"},
                 {"short_factor", {1.0, 1.1, 1.2, 1.3}},
                 {"long_factor", {2.0, 3.0, 4.0, 5.0}}}}});
  auto model = tiny_model(json);
  EXPECT_EQ(generate(model, {3, 4, 5}, 30, {}), greedy_by_full_passes(model, {3, 4, 5}, 30));
}

TEST(Generate, StopsAtAnEndIdAndKeepsIt) {
  auto model = tiny_model(tiny_llama());
  const auto free = generate(model, {3, 4, 5}, 10, {});
  model->config.end_ids = {free[5]};
  const auto ended = generate(model, {3, 4, 5}, 10, {});
  EXPECT_EQ(ended.back(), free[5]);
  EXPECT_LE(ended.size(), 6u);
}

TEST(Generate, StopsAtTheEndOfTheContext) {
  auto model = tiny_model(tiny_llama());
  EXPECT_EQ(generate(model, {1}, 1000, {}).size(), 64u);
}

TEST(Generate, StopsWhenTheCallerSaysSo) {
  auto model = tiny_model(tiny_llama());
  int calls = 0;
  EXPECT_EQ(generate(model, {1}, 1000, {}, [&](int32_t) { return ++calls < 3; }).size(), 4u);
}

TEST(Generate, SamplesTheSameForTheSameSeed) {
  auto model = tiny_model(tiny_llama());
  const auto drawn = [&](uint64_t seed) {
    return generate(model, {1, 2}, 20, {.temperature = 1, .seed = seed});
  };
  EXPECT_EQ(drawn(1), drawn(1));
  EXPECT_NE(drawn(1), drawn(2));
}

TEST(Generate, RefusesWhatItCannotContinue) {
  auto model = tiny_model(tiny_llama());
  EXPECT_EQ(message([&] { generate(model, {}, 1, {}); }), "generate: the prompt is empty");
  EXPECT_EQ(message([&] { generate(model, std::vector<int32_t>(65, 1), 1, {}); }),
            "generate: the prompt has 65 tokens, the context holds 64");
  auto bert = tiny_model(tiny_bert());
  EXPECT_EQ(message([&] { generate(bert, {1}, 1, {}); }),
            "generate: a bert model of this kind predicts no next token");
}

TEST(Evaluate, PredictsEveryTokenButTheFirstOnce) {
  auto model = tiny_model(tiny_llama());
  const torch::NoGradGuard no_grad;
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < 30; ++i) ids.push_back(i * 7 % 50);
  // Windows of 8 by hand: 8 + 8 + 8 + 5 predicted tokens.
  double nats = 0;
  for (size_t begin = 0; begin + 1 < ids.size(); begin += 8) {
    const auto count = std::min<size_t>(8, ids.size() - 1 - begin);
    const auto part =
        torch::tensor(std::vector(ids.begin() + static_cast<ptrdiff_t>(begin),
                                  ids.begin() + static_cast<ptrdiff_t>(begin + count)),
                      torch::kInt)
            .to(torch::kLong);
    const auto logs = torch::log_softmax(model->forward(part.unsqueeze(0))[0], -1);
    for (size_t i = 0; i < count; ++i)
      nats -= logs[static_cast<int64_t>(i)][ids[begin + i + 1]].item<double>();
  }
  const auto result = evaluate(model, ids, 100, 8, 2);
  EXPECT_EQ(result.tokens, 29);
  EXPECT_NEAR(result.nats, nats, 1e-3);
  EXPECT_NEAR(result.bits_per_byte(), nats / std::log(2.0) / 100, 1e-4);
  EXPECT_NEAR(evaluate(model, ids, 100, 8, 5).nats, nats, 1e-3);
}

TEST(Evaluate, RefusesWindowsBeyondTheContext) {
  auto model = tiny_model(tiny_llama());
  EXPECT_EQ(message([&] {
              evaluate(model, {1, 2, 3}, 3, 65, 1);
            }),
            "evaluate: windows of 65 tokens, expected 1 to 64 (the model's context)");
}

}  // namespace
}  // namespace cajal::lm
