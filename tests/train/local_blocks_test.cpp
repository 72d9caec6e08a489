#include "cajal/train/local_blocks.h"

#include <gtest/gtest.h>

#include <cmath>

#include "cajal/train/saved_bytes.h"

namespace {
using namespace cajal;
using namespace cajal::train;
using vision::Net;
using vision::Partition;

std::vector<vision::Block> net(Partition partition, Net kind = Net::plain_cnn,
                               double width = 0.125) {
  vision::BlockNetOptions o;
  o.net = kind, o.channels = 1, o.width = width, o.partition = partition;
  return vision::block_net(o);
}

BlockLearning rule(BlockRule rule) {
  BlockLearning o;
  o.rule = rule, o.epochs = 1, o.batch = 16;
  return o;
}

struct Batch {
  torch::Tensor x = (torch::manual_seed(1), torch::randn({48, 1, 12, 12}));
  torch::Tensor y = torch::randint(4, {48}, torch::kLong);
};

TEST(ClassGoodness, MarginLossIsSoftplusOfTheOthersOverTheTrueOne) {
  const auto g = torch::tensor({{1.0, 2.0, 0.5}}, torch::kDouble);
  const double others = std::log(std::exp(1.0) + std::exp(0.5));
  EXPECT_NEAR(class_goodness_loss(g, torch::tensor({1}), GoodnessLoss::margin, 1, 2).item<double>(),
              std::log1p(std::exp(others - 2.0 + 1)), 1e-12);
}

TEST(ClassGoodness, PairLossPushesTheTrueOneUpAndTheOthersDown) {
  const auto g = torch::tensor({{1.0, 2.5, 0.5}}, torch::kDouble);
  const auto soft = [](double x) { return std::log1p(std::exp(x)); };
  EXPECT_NEAR(class_goodness_loss(g, torch::tensor({1}), GoodnessLoss::pair, 1, 2).item<double>(),
              soft(2 - 2.5) + (soft(1.0 - 2) + soft(0.5 - 2)) / 2, 1e-12);
}

TEST(BlockLearner, LossOfABlockReachesNoOtherBlock) {
  const Batch b;
  BlockLearner learner(net(Partition::blocks, Net::resnet18), 4, rule(BlockRule::sff));
  const auto below = learner.blocks()[0].forward(b.x);  // with its graph
  const auto loss = learner.block_loss(1, below, b.y);
  EXPECT_TRUE(isolated(loss, learner.block_parameters(0)));
  EXPECT_TRUE(isolated(loss, learner.block_parameters(2)));
  EXPECT_EQ(reached_by(loss).size(), learner.block_parameters(1).size());
}

TEST(BlockLearner, AStepOnTheLastBlocksLeavesTheOthersAsTheyWere) {
  const Batch b;
  auto o = rule(BlockRule::sff);
  o.trained_blocks = 2;
  BlockLearner learner(net(Partition::blocks), 4, o);
  const auto kept = learner.block_parameters(3)[0].detach().clone();
  const auto trained = learner.block_parameters(5)[0].detach().clone();
  learner.step(b.x, b.y);
  EXPECT_TRUE(torch::equal(kept, learner.block_parameters(3)[0]));
  EXPECT_FALSE(torch::equal(trained, learner.block_parameters(5)[0]));
}

void copy_weights(const BlockLearner& from, const BlockLearner& to) {
  const torch::NoGradGuard no_grad;
  for (size_t i = 0; i < std::min(from.blocks().size(), to.blocks().size()); ++i) {
    const auto a = from.block_parameters(i), b = to.block_parameters(i);
    for (size_t p = 0; p < a.size(); ++p) b[p].copy_(a[p]);
  }
}

TEST(BlockLearner, InterleavedTrainingGivesTheFirstBlockTheWeightsItGetsAlone) {
  const Batch b;
  auto blocks = net(Partition::blocks);
  BlockLearner all(blocks, 4, rule(BlockRule::sff));
  BlockLearner alone({net(Partition::blocks)[0]}, 4, rule(BlockRule::sff));
  copy_weights(all, alone);
  torch::manual_seed(9);
  all.train(b.x, b.y);
  torch::manual_seed(9);
  alone.train(b.x, b.y);
  const auto p = all.block_parameters(0), q = alone.block_parameters(0);
  for (size_t i = 0; i < p.size(); ++i) EXPECT_TRUE(torch::equal(p[i], q[i]));
}

TEST(BlockLearner, OneBlockWithoutMarginIsOrdinaryTraining) {
  const Batch b;
  auto o = rule(BlockRule::sff);
  o.margin = 0;
  BlockLearner local(net(Partition::whole), 4, o);
  auto full = o;
  full.rule = BlockRule::deep_supervision;
  BlockLearner ordinary(net(Partition::whole), 4, full);
  copy_weights(local, ordinary);
  for (int i = 0; i < 20; ++i)
    EXPECT_NEAR(local.step(b.x, b.y)[0], ordinary.step(b.x, b.y)[0], 1e-6);
}

// The trap: autograd keeps every block's graph unless its backward pass runs at once.
TEST(BlockLearner, HoldsTheSavedTensorsOfOneBlockAtATime) {
  const auto x = torch::randn({16, 1, 28, 28});
  const auto y = torch::randint(10, {16}, torch::kLong);
  const auto peak = [&](BlockRule r) {
    BlockLearner learner(net(Partition::blocks, Net::resnet18), 10, rule(r));
    const SavedBytes meter(vision::parameters(learner.blocks()));
    learner.step(x, y);
    EXPECT_EQ(meter.live(), 0);
    return static_cast<double>(meter.peak());
  };
  EXPECT_LE(peak(BlockRule::sff), 0.5 * peak(BlockRule::backprop));
}

// The trap: a cut graph must not change which statistics batch norm uses.
TEST(BlockLearner, PredictsWithRunningStatistics) {
  const Batch b;
  BlockLearner learner(net(Partition::blocks), 4, rule(BlockRule::sff));
  learner.step(b.x, b.y);
  const auto together = learner.scores(b.x), alone = learner.scores(b.x.narrow(0, 0, 1));
  EXPECT_TRUE(torch::allclose(together.back().narrow(0, 0, 1), alone.back(), 1e-4, 1e-5));
}

TEST(BlockLearner, EveryRuleAndScheduleLearnsBrightAndDark) {
  torch::manual_seed(5);
  const auto y = torch::randint(2, {96}, torch::kLong);
  auto x = torch::randn({96, 1, 8, 8});
  x.narrow(2, 0, 4) += 2 * y.view({-1, 1, 1, 1});
  for (const auto r :
       {BlockRule::sff, BlockRule::greedy, BlockRule::deep_supervision, BlockRule::backprop})
    for (const auto schedule : {BlockSchedule::interleaved, BlockSchedule::greedy}) {
      auto o = rule(r);
      const bool cut = r == BlockRule::sff || r == BlockRule::greedy;
      if (!cut && schedule == BlockSchedule::greedy) continue;
      o.epochs = 8, o.schedule = schedule, o.optimizer.learning_rate = 0.01;
      BlockLearner learner(net(Partition::blocks), 2, o);
      learner.train(x, y);
      const auto right = learner.predict(x, BlockVote::softmax, learner.best_prefix(x, y)).eq(y);
      EXPECT_GT(right.to(torch::kFloat).mean().item<float>(), 0.9)
          << to_name(r) << to_name(schedule);
    }
}

TEST(BlockNets, HaveThePublishedSizes) {
  const auto count = [](Net kind, int64_t channels) {
    vision::BlockNetOptions o;
    o.net = kind, o.channels = channels;
    int64_t sum = 0;
    for (const auto& p : vision::parameters(vision::block_net(o))) sum += p.numel();
    return sum;
  };
  EXPECT_EQ(count(Net::resnet18, 3), 11'168'832);  // 11,173,962 less its 10-way head of 5,130
  EXPECT_EQ(count(Net::mobilenet_v3_small, 3), 927'008);  // the features of the published net
}

TEST(SampleNorm, LeavesNothingOfTheGoodnessInWhatIsHandedOn) {
  const auto z = torch::randn({3, 4, 5, 5});
  const auto u = sample_norm(7 * z);
  EXPECT_TRUE(torch::allclose(u, sample_norm(z), 1e-3, 1e-4));
  EXPECT_TRUE(torch::allclose(u.square().mean({1, 2, 3}), torch::ones({3}), 1e-3, 1e-3));
}

}  // namespace
