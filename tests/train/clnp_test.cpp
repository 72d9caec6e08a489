#include "cajal/train/clnp.h"

#include <gtest/gtest.h>

namespace {
using namespace cajal;
using namespace cajal::train;

Samples samples(int64_t count, int64_t channels = 1) {
  const auto y = torch::randint(3, {count}, torch::kLong);
  auto x = 0.3 * torch::randn({count, channels, 6, 6});
  for (int64_t i = 0; i < count; ++i) x[i].select(1, y[i].item<int64_t>()) += 1;
  return {x, y};
}

StreamTask task() { return {samples(120), samples(60), samples(40)}; }

TaskNetOptions net_options(bool convolutions) {
  TaskNetOptions o;
  o.height = o.width = 6, o.classes = 3, o.hidden = {24, 24};
  if (convolutions) o.filters = {8, 8}, o.hidden = {24};
  return o;
}

ClnpOptions options() {
  ClnpOptions o;
  o.training.epochs = 4, o.training.batch = 30, o.training.optimizer.learning_rate = 0.01;
  o.weight_l1 = 1e-3, o.margin = 0.05;
  return o;
}

struct Learned {
  std::vector<StreamTask> tasks;
  NeuralPruning learner;
  std::vector<CommitReport> reports;
  std::vector<torch::Tensor> answers;  // right after the commit
};

Learned learn(const ClnpOptions& o, bool convolutions = false, int64_t count = 3) {
  torch::manual_seed(7);
  Learned out{{}, NeuralPruning(TaskNet(net_options(convolutions)), o), {}, {}};
  for (int64_t t = 0; t < count; ++t) {
    out.tasks.push_back(task());
    out.reports.push_back(out.learner.learn(out.tasks.back()));
    const torch::NoGradGuard no_grad;
    out.answers.push_back(out.learner.forward(out.tasks.back().test.x, out.answers.size()));
  }
  return out;
}

bool old_answers_hold(const Learned& all) {
  const torch::NoGradGuard no_grad;
  bool equal = true;
  for (size_t s = 0; s < all.answers.size(); ++s)
    equal = equal && torch::equal(all.answers[s], all.learner.forward(all.tasks[s].test.x, s));
  return equal;
}

TEST(NeuralPruning, OldLogitsAreBitEqualAfterEveryLaterTask) {
  EXPECT_TRUE(old_answers_hold(learn(options())));
}

TEST(NeuralPruning, OldLogitsAreBitEqualWithConvolutions) {
  EXPECT_TRUE(old_answers_hold(learn(options(), true)));
}

// The trap: decoupled weight decay shrinks weights whose gradient is masked.
TEST(NeuralPruning, OldLogitsAreBitEqualUnderDecoupledWeightDecay) {
  auto o = options();
  o.training.optimizer.rule = LocalRule::adamw, o.training.optimizer.weight_decay = 0.1;
  EXPECT_TRUE(old_answers_hold(learn(o)));
}

// The trap: momentum gathered in an earlier task moves weights that are frozen now.
TEST(NeuralPruning, OldLogitsAreBitEqualUnderMomentum) {
  auto o = options();
  o.training.optimizer.rule = LocalRule::sgd;
  EXPECT_TRUE(old_answers_hold(learn(o)));
}

TEST(NeuralPruning, OldLogitsAreBitEqualWithConstantUnitsFoldedIntoBiases) {
  auto o = options();
  o.statistic = ActivityStatistic::deviation;
  EXPECT_TRUE(old_answers_hold(learn(o)));
}

TEST(NeuralPruning, MaskedUnitsFoldedIntoBiasesKeepTheMaskedAccuracy) {
  auto o = options();
  o.statistic = ActivityStatistic::deviation, o.search = ThresholdSearch::layers;
  const auto all = learn(o, false, 1);
  EXPECT_NEAR(task_accuracy(all.learner.net, 0, all.tasks[0].valid), all.reports[0].pruned_accuracy,
              1e-9);
}

TEST(NeuralPruning, LosesNoMoreThanItsMargin) {
  for (const auto search : {ThresholdSearch::net, ThresholdSearch::layers}) {
    auto o = options();
    o.search = search;
    for (const auto& report : learn(o).reports)
      EXPECT_LE(report.accuracy - report.pruned_accuracy, o.margin + 1e-9);
  }
}

TEST(NeuralPruning, KeepsInterferenceWeightsAtZero) {
  const auto all = learn(options());
  const auto& active = all.learner.active_after(3);
  const auto& weight = all.learner.net->layers[1].weight;
  const auto blocks = active[1].unsqueeze(1).logical_and(active[0].logical_not().unsqueeze(0));
  EXPECT_GT(blocks.sum().item<int64_t>(), 0);
  EXPECT_TRUE(weight.masked_select(blocks).eq(0).all().item<bool>());
}

TEST(NeuralPruning, CountsEveryParameterOnce) {
  const auto all = learn(options());
  for (size_t l = 0; l < 2; ++l) {
    const auto& c = all.reports.back().layers[l];
    const auto& layer = all.learner.net->layers[l];
    EXPECT_EQ(c.frozen + c.zeroed + c.free, layer.weight.numel() + layer.bias.numel());
    EXPECT_EQ(c.active(), all.learner.active_after(3)[l].sum().item<int64_t>());
  }
}

TEST(NeuralPruning, NeverTakesAUnitBack) {
  const auto all = learn(options());
  for (size_t t = 0; t < 3; ++t)
    for (size_t l = 0; l < 2; ++l)
      EXPECT_TRUE(all.learner.active_after(t)[l]
                      .logical_and(all.learner.active_after(t + 1)[l].logical_not())
                      .any()
                      .logical_not()
                      .item<bool>());
}

TEST(NeuralPruning, ASubNetworkAnswersLikeTheWholeNet) {
  const torch::NoGradGuard no_grad;
  for (const bool convolutions : {false, true}) {
    const torch::AutoGradMode learns(true);
    const auto all = learn(options(), convolutions);
    for (size_t t = 0; t < 3; ++t) {
      const auto small = all.learner.extract(t);
      EXPECT_LT(
          (small->forward(all.tasks[t].test.x, 0) - all.answers[t]).abs().max().item<double>(),
          1e-5);
    }
    EXPECT_LT(all.learner.extract(0)->units(0), all.learner.net->units(0));
  }
}

// The oracle of the dossier: a dense reference with its four blocks written out.
TEST(NeuralPruning, ThreeMaskedStepsEqualExplicitBlocks) {
  torch::manual_seed(3);
  const auto x = torch::randn({10, 6}), w = torch::randn({6, 6}).requires_grad_();
  const auto start = w.detach().clone();
  const auto active = torch::tensor({1, 1, 0, 0, 1, 0}).to(torch::kBool);
  LocalOptions o;
  o.rule = LocalRule::sgd, o.learning_rate = 0.1, o.momentum = 0.9;
  LocalOptimizer optimizer({w}, o);
  optimizer.freeze(0, active.logical_not().unsqueeze(1).expand({6, 6}).contiguous());
  auto rows = start.index_select(0, torch::tensor({2, 3, 5})), velocity = torch::zeros({3, 6});
  for (int step = 0; step < 3; ++step) {
    optimizer.step(torch::linear(x, w).square().mean());
    const auto own = rows.clone().requires_grad_();
    auto all = start.clone();
    all.index_copy_(0, torch::tensor({2, 3, 5}), own);
    const auto g = torch::autograd::grad({torch::linear(x, all).square().mean()}, {own})[0];
    velocity = 0.9 * velocity + g;
    rows = rows - 0.1 * velocity;
  }
  EXPECT_LT(
      (w.detach().index_select(0, torch::tensor({2, 3, 5})) - rows).abs().max().item<double>(),
      1e-6);
  EXPECT_TRUE(torch::equal(w.detach().index_select(0, torch::tensor({0, 1, 4})),
                           start.index_select(0, torch::tensor({0, 1, 4}))));
}

TEST(NeuralPruning, SaysSoWhenALayerHasNoFreeUnit) {
  auto o = options();
  o.margin = 0, o.weight_l1 = 0;
  torch::manual_seed(1);
  auto narrow = net_options(false);
  narrow.hidden = {2, 2};
  NeuralPruning learner(TaskNet(narrow), o);
  std::string said;
  try {
    for (int t = 0; t < 6; ++t) learner.learn(task());
  } catch (const Error& error) {
    said = error.what();
  }
  EXPECT_NE(said.find("no free unit left"), said.npos);
}

TEST(NeuralPruning, WidensALayerWithoutChangingOldAnswers) {
  auto o = options();
  o.margin = 0, o.weight_l1 = 0, o.widen = 3;
  torch::manual_seed(1);
  auto narrow = net_options(false);
  narrow.hidden = {2, 2};
  NeuralPruning learner(TaskNet(narrow), o);
  const auto first = task();
  learner.learn(first);
  const auto answer = learner.forward(first.test.x, 0).detach();
  for (int t = 0; t < 5; ++t) learner.learn(task());
  EXPECT_GT(learner.net->units(0) + learner.net->units(1), 4);
  EXPECT_LT((learner.forward(first.test.x, 0) - answer).abs().max().item<double>(), 1e-6);
}

TEST(ElasticWeights, PullBackToWhereAnEarlierTaskLeftThem) {
  QuadraticPenalty penalty(2);
  const auto importance = torch::tensor({1.f, 0.f}), anchor = torch::tensor({3.f, 5.f});
  penalty.add({importance}, {anchor});
  EXPECT_TRUE(
      torch::allclose(penalty.gradient(0, torch::tensor({4.f, 9.f})), torch::tensor({2.f, 0.f})));
}

TEST(PathIntegral, OfAQuadraticLossIsTheLossItLost) {
  auto w = torch::tensor({1.f}).requires_grad_();
  PathIntegral path({w}, 0);
  for (int i = 0; i < 1000; ++i) {
    path.before_step();
    const auto g = (2 * w).detach();
    {
      const torch::NoGradGuard no_grad;
      w -= 0.001 * g;
    }
    path.after_step({g});
  }
  const double end = w.item<double>();
  EXPECT_NEAR(path.importance()[0].item<double>(), (1 - end * end) / ((1 - end) * (1 - end)), 0.01);
}

TEST(Streams, PermutedTasksKeepTheFirstAndShuffleTheOthers) {
  const auto all = task();
  const auto stream = permuted_tasks(all, 2, 1);
  EXPECT_TRUE(torch::equal(stream[0].train.x, all.train.x));
  EXPECT_FALSE(torch::equal(stream[1].train.x, all.train.x));
  EXPECT_TRUE(torch::allclose(std::get<0>(stream[1].test.x.flatten(1).sort(1)),
                              std::get<0>(all.test.x.flatten(1).sort(1))));
}

TEST(Streams, SplitTasksNumberTheirClassesFromZero) {
  const auto stream = split_tasks(task(), 3, 2);
  EXPECT_EQ(stream.size(), 1);
  EXPECT_EQ(stream[0].train.y.max().item<int64_t>(), 1);
}

}  // namespace
