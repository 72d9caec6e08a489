#include "cajal/train/packnet.h"

#include <gtest/gtest.h>

#include "cajal/core/error.h"

namespace {
using namespace cajal;
using namespace cajal::train;

Samples samples(int64_t count) {
  const auto y = torch::randint(3, {count}, torch::kLong);
  auto x = 0.3 * torch::randn({count, 1, 6, 6});
  for (int64_t i = 0; i < count; ++i) x[i].select(1, y[i].item<int64_t>()) += 1;
  return {x, y};
}

StreamTask task() { return {samples(120), samples(60), samples(40)}; }

PackNet packnet(double prune, LocalRule rule = LocalRule::adam) {
  torch::manual_seed(7);
  PackNetOptions o;
  o.training.epochs = 4, o.training.batch = 30, o.prune = prune, o.retrain_epochs = 2;
  o.training.optimizer.learning_rate = 0.01, o.training.optimizer.rule = rule;
  o.training.optimizer.weight_decay = rule == LocalRule::adamw ? 0.1 : 0;
  return PackNet(TaskNet(TaskNetOptions{.height = 6, .width = 6, .hidden = {24, 24}, .classes = 3}),
                 o);
}

// The trap: weights that were pruned or frozen come back because the optimiser still moves them.
TEST(PackNet, OldLogitsAreBitEqualAfterLaterTasksUnderWeightDecay) {
  auto learner = packnet(0.6, LocalRule::adamw);
  const auto first = task();
  learner.learn(first);
  const torch::Tensor before = learner.forward(first.test.x, 0).detach();
  learner.learn(task()), learner.learn(task());
  EXPECT_TRUE(torch::equal(before, learner.forward(first.test.x, 0).detach()));
}

TEST(PackNet, GivesBackTheShareThatItWasTold) {
  auto learner = packnet(0.5);
  learner.learn(task());
  EXPECT_NEAR(learner.free_share(0), 0.5, 1e-3);
  learner.learn(task());
  EXPECT_NEAR(learner.free_share(0), 0.25, 1e-3);
  EXPECT_NEAR(learner.free_share(1), 0.25, 2e-3);
}

TEST(PackNet, KeepsTheWeightsOfLargestMagnitude) {
  auto learner = packnet(0.5);
  learner.learn(task());
  const auto& weight = learner.net->layers[0].weight;
  EXPECT_NEAR(weight.eq(0).to(torch::kDouble).mean().item<double>(), 0.5, 1e-3);
}

TEST(PackNet, LearnsEveryTaskOfTheStream) {
  auto learner = packnet(0.6);
  std::vector<StreamTask> tasks{task(), task(), task()};
  for (const auto& one : tasks) learner.learn(one);
  for (size_t t = 0; t < tasks.size(); ++t)
    EXPECT_GE(task_accuracy(learner.task_net(t), t, tasks[t].test), 0.8) << t;
}

TEST(PackNet, SaysSoWhenALayerHasNoFreeWeight) {
  auto learner = packnet(0);
  learner.learn(task());
  try {
    learner.learn(task());
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("no free weight"), std::string::npos);
  }
}

TEST(PackNet, RefusesAShareThatIsNone) {
  EXPECT_THROW(packnet(1), Error);
  EXPECT_THROW(packnet(-0.1), Error);
}

}  // namespace
