#include "cajal/layers/ffn/sparse_memory.h"

#include <gtest/gtest.h>

#include <cmath>

#include "cajal/layers/ffn/balancing.h"
#include "cajal/layers/ffn/product_key.h"
#include "cajal/layers/layer.h"
#include "checks.h"
#include "gradcheck.h"

namespace cajal {
namespace {

using testing::difference;
using testing::message;

SparseMemoryOptions small(Selector selector = Selector::avg_k) {
  SparseMemoryOptions o{.width = 6, .outputs = 5, .neurons = 48, .block = 4, .active_blocks = 3};
  o.selector = selector;
  o.deviation = 0.5;
  if (selector == Selector::switched) o.active_blocks = 1;
  if (selector == Selector::vanilla) o.block = 1, o.active_blocks = 12;
  if (selector == Selector::low_rank) o.block = 1, o.active_blocks = 12, o.rank = 2;
  if (selector == Selector::product_key) o.block = 1, o.neurons = 49, o.active_blocks = 12;
  return o;
}

SparseMemory memory(const SparseMemoryOptions& options) {
  torch::manual_seed(2);
  SparseMemory out(options);
  out->eval();
  return out;
}

torch::Tensor dense(const SparseMemoryImpl& m, const torch::Tensor& x) {
  auto y = torch::relu(torch::linear(x, m.key, m.bias_key)).mm(m.value);
  return m.bias_value.defined() ? y + m.bias_value.sum(0) : y;
}

TEST(SparseMemory, OneBlockIsTheDenseFeedForwardNetwork) {
  auto m =
      memory({.width = 6, .outputs = 5, .neurons = 48, .block = 48, .bias = true, .deviation = 0});
  const auto x = torch::randn({7, 6});
  EXPECT_LT(difference(std::get<0>(m->forward(x)), dense(*m, x)), 1e-5);
}

TEST(SparseMemory, AllCellsOfVanillaAreTheDenseFeedForwardNetwork) {
  auto options = small(Selector::vanilla);
  options.active_blocks = 48;
  auto m = memory(options);
  const auto x = torch::randn({7, 6});
  EXPECT_LT(difference(std::get<0>(m->forward(x)), dense(*m, x)), 1e-5);
}

TEST(SparseMemory, AvgKWithSingleCellsChoosesWhatVanillaChooses) {
  auto options = small(Selector::vanilla);
  auto vanilla = memory(options);
  options.selector = Selector::avg_k;
  auto avg = memory(options);
  const auto x = torch::randn({20, 6});
  EXPECT_TRUE(torch::equal(avg->select(x).blocks, vanilla->select(x).blocks));
  EXPECT_LT(difference(std::get<0>(avg->forward(x)), std::get<0>(vanilla->forward(x))), 1e-6);
}

TEST(SparseMemory, GroupedGatherAndMaskedPathsAgreeWithTheirGradients) {
  for (const auto selector : {Selector::avg_k, Selector::noisy_top_k, Selector::switched})
    for (const bool bias : {false, true}) {
      auto options = small(selector);
      options.bias = bias;
      std::vector<std::vector<torch::Tensor>> all;
      for (const auto path : {MemoryPath::masked, MemoryPath::gather, MemoryPath::grouped}) {
        options.path = path;
        auto m = memory(options);
        torch::manual_seed(7);
        if (bias) {
          const torch::NoGradGuard no_grad;
          m->bias_key.normal_(), m->bias_value.normal_();
        }
        auto x = torch::randn({9, 6}).set_requires_grad(true);
        const auto y = std::get<0>(m->forward(x));
        (y * torch::sin(torch::arange(45.0f).view({9, 5}))).sum().backward();
        std::vector<torch::Tensor> found = {y.detach(), x.grad()};
        for (const auto& p : m->parameters())
          found.push_back(p.grad().defined() ? p.grad() : torch::zeros_like(p));
        all.push_back(found);
      }
      for (size_t i = 0; i < all[0].size(); ++i) {
        EXPECT_LT(difference(all[0][i], all[1][i]), 1e-5) << to_name(selector) << i;
        EXPECT_LT(difference(all[0][i], all[2][i]), 1e-5) << to_name(selector) << i;
      }
    }
}

TEST(SparseMemory, TheAnswerIsTheSumOverTheChosenCells) {
  auto m = memory(small());
  const auto x = torch::randn({4, 6});
  const auto scores = x.mm(m->key.view({12, 4, 6}).mean(1).t());
  for (int64_t r = 0; r < 4; ++r) {
    const auto best = std::get<1>(scores[r].topk(3));
    auto y = torch::zeros({5});
    for (int64_t b = 0; b < 3; ++b)
      for (int64_t i = 0; i < 4; ++i) {
        const auto cell = best[b].item<int64_t>() * 4 + i;
        y = y + torch::relu((x[r] * m->key[cell]).sum()) * m->value[cell];
      }
    EXPECT_LT(difference(std::get<0>(m->forward(x))[r], y), 1e-5);
  }
}

TEST(SparseMemory, CellSelectorsAnswerAlikeForFewAndManyRows) {
  for (const auto selector : {Selector::vanilla, Selector::low_rank, Selector::product_key}) {
    auto m = memory(small(selector));
    const auto x = torch::randn({12, 6});
    const auto all = std::get<0>(m->forward(x));
    EXPECT_LT(difference(all.narrow(0, 0, 3), std::get<0>(m->forward(x.narrow(0, 0, 3)))), 1e-5);
  }
}

TEST(SparseMemory, LowRankKeysAreTheProductOfTheirFactors) {
  auto options = small(Selector::low_rank);
  options.active_blocks = 48;
  auto m = memory(options);
  const auto x = torch::randn({3, 6});
  const auto keys = m->up.mm(m->down.t());
  EXPECT_LT(difference(std::get<0>(m->forward(x)), torch::relu(x.mm(keys.t())).mm(m->value)), 1e-5);
}

TEST(SparseMemory, ProductKeysAreAllPairsOfTheHalves) {
  auto options = small(Selector::product_key);
  options.active_blocks = 49;
  auto m = memory(options);
  const auto x = torch::randn({3, 6});
  std::vector<torch::Tensor> keys;
  for (int64_t i = 0; i < 7; ++i)
    for (int64_t j = 0; j < 7; ++j)
      keys.push_back(torch::cat({m->sub_keys[0][i], m->sub_keys[1][j]}));
  const auto expected = torch::relu(x.mm(torch::stack(keys).t())).mm(m->value);
  EXPECT_LT(difference(std::get<0>(m->forward(x)), expected), 1e-5);
}

TEST(SparseMemory, EachSelectorHasTheGradientOfItsFunction) {
  for (const auto selector : {Selector::avg_k, Selector::vanilla, Selector::low_rank,
                              Selector::product_key, Selector::switched, Selector::noisy_top_k}) {
    auto options = small(selector);
    options.losses = true, options.shared = 3;
    auto m = memory(options);
    m->to(torch::kDouble);
    const auto x = torch::randn({4, 6}, torch::kDouble);
    auto inputs = m->parameters();
    inputs.push_back(x);
    const auto both = [&] {
      const auto [y, loss] = m->forward(x);
      return torch::cat({y.flatten(), loss.reshape(1)});
    };
    EXPECT_LT(testing::gradient_error(both, inputs, 1e-6), 1e-6) << to_name(selector);
  }
}

TEST(SparseMemory, AHashReadsTheBlocksOfItsTable) {
  auto options = small(Selector::random_hash);
  options.ids = 10;
  auto m = memory(options);
  const auto ids = torch::tensor({{3, 9}, {3, 0}}, torch::kLong);
  const auto chosen = m->select(torch::randn({4, 6}), ids).blocks;
  EXPECT_TRUE(torch::equal(chosen[0], m->table[3]));
  EXPECT_TRUE(torch::equal(chosen[0], chosen[2]));
  for (int64_t id = 0; id < 10; ++id)
    EXPECT_EQ(std::get<0>(torch::_unique(m->table[id])).numel(), 3);
  EXPECT_NE(message([&] {
              m->forward(torch::randn({1, 6}), torch::tensor({10}, torch::kLong));
            }).find("expected 0 to 9"),
            std::string::npos);
  EXPECT_NE(message([&] {
              m->forward(torch::randn({1, 6}));
            }).find("needs the input ids"),
            std::string::npos);
}

TEST(SparseMemory, ABigramHashLooksAtTheTokenBefore) {
  const auto rows = routing::bucket(torch::tensor({{5, 5, 7, 5}}, torch::kLong), 2, 1 << 20);
  EXPECT_NE(rows[0][0].item<int64_t>(), rows[0][1].item<int64_t>());
  EXPECT_NE(rows[0][1].item<int64_t>(), rows[0][3].item<int64_t>());
}

TEST(Switch, DropsRowsBeyondTheCapacityOfABlock) {
  const auto logits = torch::tensor({{2.f, 0.f}, {2.f, 0.f}, {2.f, 0.f}, {0.f, 2.f}});
  const auto chosen = routing::switched(logits, 1.0, 0.01);  // room for 2 rows
  const double p = 1 / (1 + std::exp(-2.0));
  EXPECT_NEAR(chosen.weights[0].item<double>(), p, 1e-6);
  EXPECT_NEAR(chosen.weights[1].item<double>(), p, 1e-6);
  EXPECT_EQ(chosen.weights[2].item<double>(), 0);
  EXPECT_NEAR(chosen.weights[3].item<double>(), p, 1e-6);
  const double f[] = {0.75, 0.25}, mean[] = {(3 * p + 1 - p) / 4, (3 * (1 - p) + p) / 4};
  EXPECT_NEAR(chosen.loss.item<double>(), 0.01 * 2 * (f[0] * mean[0] + f[1] * mean[1]), 1e-7);
}

TEST(NoisyTopK, GatesAreTheSoftmaxOverTheChosenAndTheLossIsTheirVariation) {
  const auto logits = torch::tensor({{1.f, 3.f, 2.f}, {0.f, 1.f, 5.f}});
  const auto chosen = routing::noisy_top(logits, {}, 2, 0.1, 0);
  EXPECT_TRUE(torch::equal(chosen.blocks, torch::tensor({{1, 2}, {2, 1}}, torch::kLong)));
  EXPECT_NEAR(chosen.weights[0][0].item<double>(), 1 / (1 + std::exp(-1.0)), 1e-6);
  const double a = 1 / (1 + std::exp(-1.0)), b = 1 / (1 + std::exp(-4.0));
  const double total[] = {0, a + 1 - b, 1 - a + b}, mean = 2.0 / 3;
  double variance = 0;
  for (const double t : total) variance += (t - mean) * (t - mean) / 3;
  EXPECT_NEAR(chosen.loss.item<double>(), 0.1 * variance / (mean * mean), 1e-6);
}

TEST(SparseMemory, TheMultiplyAddsAreThoseOfTheDossier) {
  // E = 16, d = 64, dense 4d = 256 cells, g = 64: the selector costs E / (2 g) = 12.5 %.
  SparseMemoryOptions o{.width = 64, .neurons = 4096, .block = 64, .active_blocks = 4};
  auto cost = cost_of(o);
  EXPECT_EQ(cost.memory, 2 * 256 * 64);
  EXPECT_EQ(cost.stored, 2 * 4096 * 64);
  EXPECT_DOUBLE_EQ(static_cast<double>(cost.selector) / static_cast<double>(cost.memory), 0.125);
  o.selector = Selector::random_hash;
  EXPECT_EQ(cost_of(o).selector, 0);
  o.selector = Selector::vanilla, o.block = 1, o.active_blocks = 256;
  EXPECT_EQ(cost_of(o).selector + cost_of(o).memory, 4096 * 64 + 256 * 64);
}

TEST(SparseMemory, KeptMeanKeysChooseTheSame) {
  auto m = memory(small());
  const auto x = torch::randn({9, 6});
  const auto before = m->select(x).blocks;
  m->prepare();
  EXPECT_TRUE(torch::equal(m->select(x).blocks, before));
}

TEST(SparseMemory, RefusesOptionsThatDoNotFit) {
  const auto refuses = [](SparseMemoryOptions options, const std::string& words) {
    const auto said = message([&] { SparseMemory{options}; });
    EXPECT_NE(said.find(words), std::string::npos) << said;
  };
  refuses({.width = 4, .neurons = 10, .block = 4}, "10 neurons do not divide into blocks of 4");
  refuses({.width = 4, .neurons = 8, .block = 4, .active_blocks = 3},
          "active_blocks is 3, expected 1 to 2");
  refuses({.width = 4, .neurons = 8, .block = 0}, "must be positive");
  auto o = small(Selector::switched);
  o.active_blocks = 2;
  refuses(o, "selector switch reads 1 block");
  o = small(Selector::vanilla), o.block = 4, o.active_blocks = 2;
  refuses(o, "expected block 1, not 4");
  o = small(Selector::product_key), o.neurons = 48;
  refuses(o, "a square number of neurons");
  o = small(Selector::low_rank), o.rank = 0;
  refuses(o, "rank is 0");
  o = small(Selector::random_hash), o.gate = BlockGate::softmax;
  refuses(o, "has no scores of blocks");
}

TEST(SparseMemory, ANumberThatIsNoneStaysOne) {
  for (const auto path : {MemoryPath::masked, MemoryPath::gather, MemoryPath::grouped}) {
    auto options = small();
    options.path = path;
    auto m = memory(options);
    EXPECT_TRUE(std::get<0>(m->forward(torch::full({2, 6}, NAN))).isnan().all().item<bool>());
  }
}

TEST(ProductKeyMemory, FindsTheBestPairsOfAllPairs) {
  torch::manual_seed(9);
  const auto a = torch::randn({5, 8}), b = torch::randn({5, 8});
  const auto [sums, pairs] = top_pairs(a, b, 6);
  const auto [expected, places] = (a.unsqueeze(2) + b.unsqueeze(1)).flatten(1).topk(6, 1);
  EXPECT_LT(difference(sums, expected), 1e-6);
  EXPECT_TRUE(torch::equal(pairs, places));
}

TEST(ProductKeyMemory, HasTheGradientOfItsFunction) {
  torch::manual_seed(9);
  ProductKeyMemory m(ProductKeyMemoryOptions{.width = 4, .sub_keys = 3, .heads = 2, .top = 3});
  m->to(torch::kDouble);
  const auto x = torch::randn({3, 4}, torch::kDouble);
  auto inputs = m->parameters();
  inputs.push_back(x);
  EXPECT_LT(testing::gradient_error([&] { return m->forward(x); }, inputs, 1e-6), 1e-6);
}

}  // namespace
}  // namespace cajal
