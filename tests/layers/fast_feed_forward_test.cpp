#include "cajal/layers/ffn/fast_feed_forward.h"

#include <gtest/gtest.h>

#include <cmath>

#include "cajal/core/torch_tensors.h"
#include "cajal/data/image_set.h"
#include "cajal/layers/ffn/balancing.h"
#include "cajal/layers/ffn/fff_files.h"
#include "cajal/layers/ffn/fff_nodes.h"
#include "cajal/layers/ffn/fff_packed.h"
#include "cajal/layers/ffn/fff_tree.h"
#include "cajal/layers/ffn/local_steps.h"
#include "cajal/layers/layer.h"
#include "checks.h"
#include "gradcheck.h"

namespace cajal {
namespace {

using testing::difference;
using testing::message;

FastFeedForward tree(const FastFeedForwardOptions& options, uint64_t seed = 1) {
  torch::manual_seed(static_cast<int64_t>(seed));
  return FastFeedForward(options);
}

/// One row by the definition: walk the paths of all leaves with plain arithmetic.
torch::Tensor by_definition(FastFeedForwardImpl& layer, const torch::Tensor& x) {
  const int64_t depth = layer.options.depth;
  std::vector<torch::Tensor> rows;
  for (int64_t r = 0; r < x.size(0); ++r) {
    auto y = torch::zeros({layer.options.outputs}, x.options());
    for (int64_t leaf = 0; leaf < layer.leaves(); ++leaf) {
      double weight = 1;
      for (int64_t level = 0, at = 0; level < depth; ++level) {
        const int64_t node = (1 << level) - 1 + at;
        const double logit =
            (x[r] * layer.node_w[node]).sum().item<double>() + layer.node_b[node].item<double>();
        const bool right = (leaf >> (depth - 1 - level)) & 1;
        const double c = 1 / (1 + std::exp(-logit));
        weight *= right ? c : 1 - c;
        at = 2 * at + right;
      }
      const auto fired = torch::relu(x[r].unsqueeze(0).mm(layer.w1[leaf]) + layer.b1[leaf]);
      y = y + weight * (fired.mm(layer.w2[leaf]) + layer.b2[leaf]).squeeze(0);
    }
    rows.push_back(y);
  }
  return torch::stack(rows);
}

TEST(FastFeedForward, TheSoftFormIsTheSumOverItsLeavesByTheirPaths) {
  auto layer = tree({.width = 5, .outputs = 3, .leaf_width = 2, .depth = 3});
  layer->to(torch::kDouble);
  const auto x = torch::randn({4, 5}, torch::kDouble);
  EXPECT_LT(difference(layer->trace(x).y, by_definition(*layer, x)), 1e-12);
}

TEST(FastFeedForward, HardTrainingFormInferenceFormAndPackedFormAgree) {
  ThreadPool threads(2);
  for (int64_t depth = 0; depth <= 6; ++depth)
    for (const int64_t leaf_width : {1, 3, 16})
      for (const int64_t rows : {1, 257})
        for (const int64_t master : {0, 8}) {
          auto layer = tree({.width = 7,
                             .outputs = 5,
                             .leaf_width = leaf_width,
                             .depth = depth,
                             .master = master});
          const auto x = torch::randn({rows, 7});
          const auto hard = layer->trace(x, TreeForm::hard).y;
          EXPECT_LT(difference(hard, layer->infer(x)), 1e-5) << depth << " " << leaf_width;
          auto packed = torch::full({rows, 5}, 7.0f);
          fff::PackedTree(*layer).run(x.data_ptr<float>(), rows, packed.data_ptr<float>(), threads);
          EXPECT_LT(difference(hard, packed), 1e-5) << depth << " " << leaf_width;
        }
}

TEST(FastFeedForward, TheStraightFormAnswersHardAndHasAGradientForItsNodes) {
  auto layer = tree({.width = 6, .outputs = 4, .leaf_width = 2, .depth = 3});
  const auto x = torch::randn({9, 6});
  const auto straight = layer->trace(x, TreeForm::straight).y;
  EXPECT_LT(difference(straight, layer->trace(x, TreeForm::hard).y), 1e-5);
  straight.square().sum().backward();
  EXPECT_GT(layer->node_w.grad().abs().sum().item<double>(), 0);
  layer->zero_grad();
  layer->trace(x, TreeForm::hard).y.square().sum().backward();
  EXPECT_FALSE(layer->node_w.grad().defined() &&
               layer->node_w.grad().abs().sum().item<double>() > 0);
}

TEST(FastFeedForward, DepthZeroIsADenseFeedForwardNetwork) {
  auto layer = tree({.width = 6, .outputs = 4, .leaf_width = 9, .depth = 0});
  const auto x = torch::randn({3, 6});
  const auto dense = torch::relu(x.mm(layer->w1[0]) + layer->b1[0]).mm(layer->w2[0]) + layer->b2[0];
  EXPECT_LT(difference(layer->trace(x).y, dense), 1e-6);
  EXPECT_LT(difference(layer->infer(x), dense), 1e-6);
  EXPECT_EQ(layer->trace(x).entropy().item<float>(), 0);
}

TEST(FastFeedForward, TheWeightsOfTheLeavesSumToOne) {
  auto layer = tree({.width = 6, .leaf_width = 1, .depth = 6});
  const auto sums = layer->trace(torch::randn({50, 6}) * 5).weights.sum(1);
  EXPECT_LT(difference(sums, torch::ones(50)), 1e-6);
}

TEST(FastFeedForward, HasTheGradientOfItsFunctionAndOfItsEntropy) {
  auto layer = tree({.width = 4, .outputs = 3, .leaf_width = 2, .depth = 3, .master = 2});
  layer->to(torch::kDouble);
  const auto x = torch::randn({5, 4}, torch::kDouble);
  auto inputs = layer->parameters();
  inputs.push_back(x);
  const auto both = [&] {
    const auto traced = layer->trace(x);
    return torch::cat({traced.y.flatten(), 3 * traced.entropy().reshape(1)});
  };
  EXPECT_LT(testing::gradient_error(both, inputs), 1e-6);
}

TEST(FastFeedForward, AnUndecidedNodeGoesRightInEveryForm) {
  auto layer = tree({.width = 3, .outputs = 2, .leaf_width = 2, .depth = 2});
  torch::NoGradGuard no_grad;
  layer->node_w.zero_(), layer->node_b.zero_();
  const auto x = torch::randn({4, 3});
  EXPECT_TRUE(layer->leaf(x).eq(3).all().item<bool>());
  EXPECT_TRUE(layer->trace(x).leaf.eq(3).all().item<bool>());
}

TEST(FastFeedForward, TheEntropyOfAnUndecidedNodeIsLn2) {
  auto layer = tree({.width = 3, .leaf_width = 1, .depth = 2});
  torch::NoGradGuard no_grad;
  layer->node_w.zero_(), layer->node_b.zero_();
  EXPECT_NEAR(layer->trace(torch::randn({2, 3})).entropy().item<float>(), std::log(2), 1e-6);
}

TEST(FastFeedForward, ARegionLeakFlipsThatShareOfDecisionsInTrainingOnly) {
  auto layer = tree({.width = 3, .leaf_width = 1, .depth = 1, .region_leak = 0.2});
  torch::NoGradGuard no_grad;
  layer->node_w.zero_(), layer->node_b.fill_(50);
  const auto x = torch::randn({4000, 3});
  EXPECT_NEAR(layer->trace(x).right.mean().item<float>(), 0.8, 0.03);
  layer->eval();
  EXPECT_EQ(layer->trace(x).right.mean().item<float>(), 1);
}

TEST(FastFeedForward, UsageCountsEveryInputOnEachLevel) {
  for (const auto usage : {TreeUsage::soft, TreeUsage::hard}) {
    auto layer = tree({.width = 5, .leaf_width = 1, .depth = 3, .usage = usage});
    layer->trace(torch::randn({40, 5}));
    layer->trace(torch::randn({2, 5}));
    EXPECT_NEAR(layer->leaf_usage.sum().item<float>(), 42, 1e-3);
    EXPECT_NEAR(layer->node_usage.sum().item<float>(), 3 * 42, 1e-3);
    EXPECT_NEAR(layer->node_usage[0].item<float>(), 42, 1e-3);
  }
}

TEST(FastFeedForward, TheMasterLeafAloneAndTheTreeAloneAreItsLimits) {
  auto layer = tree({.width = 5, .outputs = 3, .leaf_width = 2, .depth = 2, .master = 8});
  torch::NoGradGuard no_grad;
  const auto x = torch::randn({6, 5});
  auto plain = tree({.width = 5, .outputs = 3, .leaf_width = 2, .depth = 2});
  for (const char* name : {"node_w", "node_b", "w1", "b1", "w2", "b2"})
    plain->named_parameters()[name].copy_(layer->named_parameters()[name]);
  const auto master = torch::relu(x.mm(layer->master_w1) + layer->master_b1).mm(layer->master_w2) +
                      layer->master_b2;
  layer->k.fill_(40);
  EXPECT_LT(difference(layer->infer(x), plain->infer(x)), 1e-6);
  layer->k.fill_(-40);
  EXPECT_LT(difference(layer->infer(x), master), 1e-6);
}

TEST(FastFeedForward, ANumberThatIsNoneStaysOne) {
  auto layer = tree({.width = 3, .outputs = 2, .leaf_width = 2, .depth = 2, .master = 2});
  const auto x = torch::full({2, 3}, NAN);
  EXPECT_TRUE(layer->infer(x).isnan().all().item<bool>());
  EXPECT_TRUE(layer->trace(x).y.isnan().all().item<bool>());
  auto y = torch::zeros({1, 2});
  ThreadPool threads(1);
  fff::PackedTree(*layer).run(x.data_ptr<float>(), 1, y.data_ptr<float>(), threads);
  EXPECT_TRUE(y.isnan().all().item<bool>());
}

TEST(FastFeedForward, AnEmptyBatchGivesAnEmptyAnswer) {
  auto layer = tree({.width = 3, .outputs = 2, .leaf_width = 2, .depth = 2});
  EXPECT_EQ(layer->infer(torch::zeros({0, 3})).sizes(), (torch::IntArrayRef{0, 2}));
  EXPECT_EQ(layer->trace(torch::zeros({0, 3})).y.sizes(), (torch::IntArrayRef{0, 2}));
}

TEST(FastFeedForward, RefusesOptionsThatMakeNoTree) {
  const auto refuses = [](const FastFeedForwardOptions& options, const std::string& words) {
    const auto said = message([&] { FastFeedForward{options}; });
    EXPECT_NE(said.find(words), std::string::npos) << said;
  };
  refuses({.width = 4, .leaf_width = 0, .depth = 1}, "leaf_width is 0, expected at least 1");
  refuses({.width = 4, .leaf_width = 1, .depth = 40}, "depth is 40, expected 0 to 24");
  refuses({.width = 4, .leaf_width = 1, .depth = -1}, "depth is -1, expected 0 to 24");
  refuses({.width = 4096, .leaf_width = 64, .depth = 24}, "weights, expected fewer than 4e9");
  refuses({.width = 4, .leaf_width = 1, .region_leak = 0.6}, "region_leak is 0.6");
  refuses({.width = 0, .leaf_width = 1}, "width and outputs must be positive");
}

TEST(LoadBalance, EqualsTheDoubleLoop) {
  torch::manual_seed(3);
  const auto soft = torch::softmax(torch::randn({37, 6}, torch::kDouble), 1);
  const auto chosen = torch::randint(6, {37}, torch::kLong);
  double sum = 0;
  for (int64_t j = 0; j < 6; ++j) {
    double f = 0, p = 0;
    for (int64_t r = 0; r < 37; ++r) {
      f += chosen[r].item<int64_t>() == j;
      p += soft[r][j].item<double>();
    }
    sum += f * p;
  }
  EXPECT_NEAR(balancing::load_balance(soft, chosen).item<double>(), 6.0 / (37 * 37) * sum, 1e-12);
}

TEST(LoadBalance, IsOneAtEvenUseAndTheNumberOfLeavesAtCollapse) {
  const auto even = torch::full({8, 4}, 0.25);
  const auto spread = torch::tensor({0, 1, 2, 3, 0, 1, 2, 3}, torch::kLong);
  EXPECT_FLOAT_EQ(balancing::load_balance(even, spread).item<float>(), 1);
  const auto zero = torch::zeros({8}, torch::kLong);
  EXPECT_FLOAT_EQ(
      balancing::load_balance(torch::one_hot(zero, 4).to(torch::kFloat), zero).item<float>(), 4);
}

TEST(LoadBalance, ReachesTheNodesThroughTheSoftPathsAlone) {
  auto layer = tree({.width = 4, .leaf_width = 2, .depth = 2});
  layer->to(torch::kDouble);
  const auto x = torch::randn({9, 4}, torch::kDouble);
  const auto frozen = layer->trace(x).leaf;
  const auto loss = [&] { return balancing::load_balance(layer->trace(x).weights, frozen); };
  EXPECT_LT(testing::gradient_error(loss, {layer->node_w, layer->node_b}), 1e-6);
  layer->trace(x).balance().backward();
  EXPECT_FALSE(layer->w1.grad().defined() && layer->w1.grad().abs().sum().item<double>() > 0);
}

TEST(LoadBalance, TheFiguresOfUseSayWhoIsIdle) {
  const auto use = balancing::use_of(torch::tensor({4, 4, 0, 0}, torch::kLong));
  EXPECT_DOUBLE_EQ(use.used, 0.5);
  EXPECT_NEAR(use.entropy, 0.5, 1e-12);
  EXPECT_DOUBLE_EQ(use.peak, 2);
  EXPECT_DOUBLE_EQ(use.variation, 1);
}

TEST(FffNodes, MaskedPathAndPackedFormAgree) {
  ThreadPool threads(2);
  for (int64_t depth = 0; depth <= 6; ++depth)
    for (const int64_t trees : {1, 3})
      for (const bool bias : {false, true}) {
        torch::manual_seed(depth);
        FffNodes layer(FffNodesOptions{
            .width = 7, .outputs = 5, .depth = depth, .trees = trees, .bias = bias});
        const auto x = torch::randn({33, 7});
        EXPECT_LT(difference(layer->masked(x), layer->infer(x)), 1e-5);
        auto packed = torch::zeros({33, 5});
        fff::PackedNodes(*layer).run(x.data_ptr<float>(), 33, packed.data_ptr<float>(), threads);
        EXPECT_LT(difference(layer->masked(x), packed), 1e-5);
      }
}

TEST(FffNodes, HasTheGradientOfItsPath) {
  torch::manual_seed(4);
  FffNodes layer(FffNodesOptions{.width = 4, .outputs = 3, .depth = 2, .trees = 2});
  layer->to(torch::kDouble);
  const auto x = torch::randn({5, 4}, torch::kDouble);
  auto inputs = layer->parameters();
  inputs.push_back(x);
  EXPECT_LT(testing::gradient_error([&] { return layer->masked(x); }, inputs), 1e-6);
  EXPECT_LT(testing::gradient_error([&] { return layer->infer(x); }, inputs), 1e-6);
}

TEST(FffNodes, RefusesATreeThatIsTooDeep) {
  EXPECT_NE(message([] {
              FffNodes(FffNodesOptions{.width = 4, .depth = 40});
            }).find("depth is 40, expected 0 to 24"),
            std::string::npos);
}

class LocalStepsTest : public ::testing::Test {
 protected:
  torch::Tensor weights = torch::ones({3, 2}).set_requires_grad(true);
  torch::Tensor usage = torch::tensor({4.0f, 1.0f, 2.0f});

  void add_gradient(double value) { (weights * value).sum().backward(); }
};

TEST_F(LocalStepsTest, OnlyBlocksThatAreDueMoveAndStartAnew) {
  LocalSteps steps({weights}, usage, {.rule = LocalRule::sgd, .learning_rate = 0.1, .batch = 2});
  add_gradient(4);
  steps.step();
  // Block 0: gradient 4 x 2 / 4 uses; block 2: 4 x 2 / 2; block 1 waits with its gradient.
  EXPECT_LT(difference(weights.detach(), torch::tensor({{.8f, .8f}, {1.f, 1.f}, {.6f, .6f}})),
            1e-6);
  EXPECT_TRUE(torch::equal(usage, torch::tensor({0.0f, 1.0f, 0.0f})));
  EXPECT_TRUE(torch::equal(weights.grad(), torch::tensor({{0.f, 0.f}, {4.f, 4.f}, {0.f, 0.f}})));
}

TEST_F(LocalStepsTest, AdamWithEveryBlockDueIsAdam) {
  LocalSteps steps({weights}, usage, {.learning_rate = 0.1, .batch = 1});
  double m = 0, v = 0, w = 1;
  for (int t = 1; t <= 3; ++t) {
    usage.fill_(1);
    const double g = t;
    add_gradient(g);
    steps.step();
    m = 0.9 * m + 0.1 * g, v = 0.999 * v + 0.001 * g * g;
    w -= 0.1 * (m / (1 - std::pow(0.9, t))) / (std::sqrt(v / (1 - std::pow(0.999, t))) + 1e-8);
  }
  EXPECT_NEAR(weights[1][1].item<double>(), w, 1e-5);
}

TEST_F(LocalStepsTest, MomentumOfABlockThatIsNotDueIsLeftAlone) {
  LocalSteps steps({weights}, usage,
                   {.rule = LocalRule::sgd, .learning_rate = 0.1, .batch = 2, .momentum = 0.5});
  add_gradient(1);
  steps.step();  // blocks 0 and 2
  add_gradient(1);
  usage.copy_(torch::tensor({0.0f, 2.0f, 0.0f}));
  steps.step();  // block 1, with both gradients and no momentum yet
  EXPECT_NEAR(weights[1][0].item<double>(), 1 - 0.1 * 2, 1e-6);
  EXPECT_NEAR(weights[0][0].item<double>(), 1 - 0.1 * 0.5, 1e-6);
}

TEST_F(LocalStepsTest, RefusesACounterOfAnotherLength) {
  EXPECT_NE(message([&] { LocalSteps({weights}, torch::zeros(4), {}); }).find("expected 4 rows"),
            std::string::npos);
}

/// The seven trained trees of the follow-up's authors: figures of their file names.
TEST(ReferenceTrees, GiveTheirStatedAccuracies) {
  const char* root = std::getenv("CAJAL_DATA");
  if (root == nullptr) GTEST_SKIP() << "CAJAL_DATA is not set";
  struct Expected {
    const char* name;
    double accuracy;
    int64_t used;
  };
  const Expected all[] = {{"balance-l1-d4", 89.04, 16}, {"balance-l2-d3", 91.00, 8},
                          {"balance-l4-d2", 91.39, 4},  {"balance-l8-d1", 93.46, 2},
                          {"master-l1-d4", 93.78, 15},  {"master-l2-d6", 93.69, 52},
                          {"master-l8-d4", 95.10, 14}};
  for (const auto& [name, accuracy, used] : all) {
    const auto path =
        std::filesystem::path(root) / "fff-mnist-models" / (std::string(name) + ".safetensors");
    if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is absent";
    auto layer = fff::load_reference(path);
    const auto images = data::read_image_set("mnist");
    int64_t right = 0, count = 0;
    auto uses = torch::zeros({layer->leaves()}, torch::kLong);
    for (const auto* part : {&images.train, &images.test}) {
      const auto pixels = torch::from_blob(const_cast<std::byte*>(part->images.bytes.data()),
                                           {part->images.shape[0], 784}, torch::kByte);
      const auto x = (pixels.to(torch::kFloat) / 255 - 0.5) / 0.5;
      const auto labels =
          torch::from_blob(const_cast<uint8_t*>(part->labels.data()), {x.size(0)}, torch::kByte);
      right += layer->infer(x).argmax(1).eq(labels).sum().item<int64_t>();
      uses += balancing::count(layer->leaf(x), layer->leaves());
      count += x.size(0);
    }
    EXPECT_EQ(count, 10000) << "the part of MNIST that is here";
    EXPECT_NEAR(100.0 * static_cast<double>(right) / static_cast<double>(count), accuracy, 0.02)
        << name;
    EXPECT_EQ(uses.gt(0).sum().item<int64_t>(), used) << name;
  }
}

}  // namespace
}  // namespace cajal
