#include <gtest/gtest.h>

#include <cmath>

#include "cajal/core/error.h"
#include "cajal/layers/recurrent/show_attend_tell.h"

namespace cajal {
namespace {

using torch::Tensor;

std::map<std::string, Tensor> weights_of(torch::nn::Module& module) {
  std::map<std::string, Tensor> out;
  for (const auto& p : module.named_parameters()) out[p.key()] = p.value().detach();
  return out;
}

/// One step of an LSTM cell, gates in the order i, f, g, o.
std::pair<Tensor, Tensor> lstm_step(const Tensor& x, const Tensor& h, const Tensor& c,
                                    const Tensor& wi, const Tensor& wh, const Tensor& bias) {
  const auto gates = (torch::matmul(x, wi.t()) + torch::matmul(h, wh.t()) + bias).chunk(4, -1);
  const auto next = torch::sigmoid(gates[1]) * c + torch::sigmoid(gates[0]) * torch::tanh(gates[2]);
  return {torch::sigmoid(gates[3]) * torch::tanh(next), next};
}

TEST(ShowAttendTell, EqualsALoopOverItsFormulas) {
  torch::manual_seed(1);
  ShowAttendTell module(ShowAttendTellOptions{
      .vocabulary = 20, .features = 5, .embedding = 4, .hidden = 8, .attention_hidden = 3});
  module->eval();
  const auto features = torch::randn({2, 3, 5});
  const auto words = torch::randint(20, {2, 6}, torch::kLong);
  const auto [odds, attention] = module->forward(features, words);
  auto w = weights_of(*module);
  const auto full = [&](const Tensor& x, const std::string& name) {
    return torch::matmul(x, w.at(name + ".weight").t()) + w.at(name + ".bias");
  };
  for (int64_t b = 0; b < 2; ++b) {
    const auto e = features[b];
    auto h = torch::tanh(full(e.mean(0), "init_h.0")), c = torch::tanh(full(e.mean(0), "init_c.0"));
    for (int64_t t = 0; t < 6; ++t) {
      std::vector<double> score;
      double sum = 0;
      for (int64_t r = 0; r < 3; ++r) {
        const auto hidden =
            torch::tanh(full(h, "attend.query_to_hidden") + full(e[r], "attend.key_to_hidden"));
        score.push_back(std::exp(full(hidden, "attend.output.0").item<double>()));
        sum += score.back();
      }
      auto context = torch::zeros({5});
      for (int64_t r = 0; r < 3; ++r) {
        const double share = score[static_cast<size_t>(r)] / sum;
        context += share * e[r];
        EXPECT_NEAR(attention[b][t][r].item<double>(), share, 1e-5);
      }
      const auto x = torch::cat({w.at("embedding.weight")[words[b][t].item<int64_t>()],
                                 context * torch::sigmoid(full(h, "feature_gate.0"))});
      std::tie(h, c) = lstm_step(x, h, c, w.at("lstm.weight_ih"), w.at("lstm.weight_hh"),
                                 w.at("lstm.bias_ih") + w.at("lstm.bias_hh"));
      const auto expected = torch::log_softmax(full(h, "output.1"), -1);
      EXPECT_LT((odds[b][t] - expected).abs().max().item<double>(), 1e-5);
    }
  }
}

TEST(LstmLanguageModel, EqualsALoopOverItsFormulas) {
  torch::manual_seed(2);
  LstmLanguageModel module(LstmLanguageModelOptions{.vocabulary = 11, .embedding = 4, .hidden = 6});
  module->eval();
  const auto words = torch::randint(11, {3, 5}, torch::kLong);
  const auto odds = module->forward(words);
  auto w = weights_of(*module);
  std::vector<Tensor> h(2, torch::zeros({3, 6})), c = h;
  for (int64_t t = 0; t < 5; ++t) {
    auto x = w.at("embedding.weight").index_select(0, words.select(1, t));
    for (size_t l = 0; l < 2; ++l) {
      const auto end = "_l" + std::to_string(l);
      std::tie(h[l], c[l]) =
          lstm_step(x, h[l], c[l], w.at("lstm.weight_ih" + end), w.at("lstm.weight_hh" + end),
                    w.at("lstm.bias_ih" + end) + w.at("lstm.bias_hh" + end));
      x = h[l];
    }
    const auto logits = torch::matmul(x, w.at("output.0.weight").t()) + w.at("output.0.bias");
    EXPECT_LT((odds.select(1, t) - torch::log_softmax(logits, -1)).abs().max().item<double>(),
              1e-5);
  }
}

TEST(LstmLanguageModel, StepByStepEqualsAllAtOnce) {
  LstmLanguageModel module(LstmLanguageModelOptions{.vocabulary = 9, .embedding = 4, .hidden = 6});
  module->eval();
  const auto words = torch::randint(9, {2, 4}, torch::kLong);
  const auto odds = module->forward(words);
  auto state = module->start(2);
  for (int64_t t = 0; t < 4; ++t)
    EXPECT_LT(
        (module->step(words.select(1, t), state) - odds.select(1, t)).abs().max().item<double>(),
        1e-5);
}

TEST(ShowAttendTell, DropsOutOnlyWhileTraining) {
  ShowAttendTell module(
      ShowAttendTellOptions{.vocabulary = 9, .features = 4, .embedding = 4, .hidden = 32});
  const auto features = torch::randn({1, 2, 4});
  const auto words = torch::ones({1, 3}, torch::kLong);
  const auto say = [&] { return std::get<0>(module->forward(features, words)); };
  module->eval();
  EXPECT_TRUE(torch::equal(say(), say()));
  module->train();
  EXPECT_FALSE(torch::equal(say(), say()));
}

TEST(ShowAttendTell, RefusesFeaturesAndOptionsThatDoNotFit) {
  EXPECT_THROW(ShowAttendTell(ShowAttendTellOptions{.vocabulary = 5}), Error);
  EXPECT_THROW(ShowAttendTell(ShowAttendTellOptions{.vocabulary = 5, .features = 4, .dropout = 1}),
               Error);
  ShowAttendTell module(ShowAttendTellOptions{.vocabulary = 5, .features = 4, .hidden = 8});
  const auto words = torch::ones({1, 3}, torch::kLong);
  EXPECT_THROW(module->forward(torch::randn({1, 2, 3}), words), Error);
  EXPECT_THROW(module->forward(torch::randn({2, 2, 4}), words), Error);
  EXPECT_THROW(module->forward(torch::randn({1, 0, 4}), words), Error);
}

}  // namespace
}  // namespace cajal
