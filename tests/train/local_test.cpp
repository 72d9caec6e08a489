#include "cajal/train/local.h"

#include <gtest/gtest.h>
#include <torch/optim.h>

namespace {
using namespace cajal;
using namespace cajal::train;

torch::Tensor leaf(torch::IntArrayRef shape) { return torch::randn(shape).requires_grad_(); }

/// The largest difference from libtorch's own optimiser after five steps on sum(cos(p)).
template <class Theirs, class TheirOptions>
double difference(const LocalOptions& options, const TheirOptions& their_options) {
  torch::manual_seed(3);
  const auto ours = leaf({5, 7});
  const auto theirs = ours.detach().clone().requires_grad_();
  LocalOptimizer optimizer({ours}, options);
  Theirs reference(std::vector<torch::Tensor>{theirs}, their_options);
  for (int i = 0; i < 5; ++i) {
    optimizer.step(ours.cos().sum());
    reference.zero_grad();
    theirs.cos().sum().backward();
    reference.step();
  }
  return (ours - theirs).abs().max().template item<double>();
}

TEST(LocalOptimizer, TakesTheStepsOfTorchAdam) {
  LocalOptions o;
  o.learning_rate = 0.1, o.weight_decay = 0.05;
  EXPECT_LT((difference<torch::optim::Adam>(o, torch::optim::AdamOptions(0.1).weight_decay(0.05))),
            1e-6);
}

TEST(LocalOptimizer, TakesTheStepsOfTorchAdamW) {
  LocalOptions o;
  o.rule = LocalRule::adamw, o.learning_rate = 0.1, o.weight_decay = 0.05;
  EXPECT_LT(
      (difference<torch::optim::AdamW>(o, torch::optim::AdamWOptions(0.1).weight_decay(0.05))),
      1e-6);
}

TEST(LocalOptimizer, TakesTheStepsOfTorchSgd) {
  LocalOptions o;
  o.rule = LocalRule::sgd, o.learning_rate = 0.1, o.momentum = 0.9, o.weight_decay = 0.05;
  EXPECT_LT((difference<torch::optim::SGD>(
                o, torch::optim::SGDOptions(0.1).momentum(0.9).weight_decay(0.05))),
            1e-6);
}

// The trap of masked gradients alone: momentum and decoupled weight decay move what is frozen.
TEST(LocalOptimizer, FrozenElementsKeepEveryBitDespiteMomentumAndWeightDecay) {
  for (const auto rule : {LocalRule::adam, LocalRule::adamw, LocalRule::sgd}) {
    LocalOptions o;
    o.rule = rule, o.weight_decay = 0.1;
    const auto p = leaf({6, 6});
    LocalOptimizer optimizer({p}, o);
    optimizer.step(p.cos().sum());
    const auto free = torch::rand({6, 6}) > 0.5;
    optimizer.freeze(0, free);
    const auto before = p.detach().clone();
    for (int i = 0; i < 3; ++i) optimizer.step(p.cos().sum());
    EXPECT_TRUE(torch::equal(p.eq(before), free.logical_not())) << to_name(rule);
  }
}

TEST(LocalOptimizer, ClipsTheNormOverAllItsParameters) {
  LocalOptions o;
  o.rule = LocalRule::sgd, o.learning_rate = 1, o.clip = 1;
  const auto a = torch::zeros({3}).requires_grad_(), b = torch::zeros({4}).requires_grad_();
  LocalOptimizer optimizer({a, b}, o);
  optimizer.step(a.sum() * 10 + b.sum() * 10);
  EXPECT_NEAR(torch::cat({a, b}).detach().norm().item<double>(), 1, 1e-5);
}

TEST(LocalOptimizer, LeavesParametersAloneThatTheLossDoesNotReach) {
  const auto a = leaf({3}), b = leaf({3});
  const auto before = b.detach().clone();
  LocalOptimizer optimizer({a, b}, {});
  optimizer.step(a.square().sum());
  EXPECT_TRUE(torch::equal(b, before));
}

TEST(LocalOptimizer, RefusesATensorThatIsNoLeaf) {
  const auto x = leaf({3});
  EXPECT_THROW(LocalOptimizer({x * 2}, {}), Error);
}

TEST(ReachedBy, FindsTheLeavesThatABackwardPassWouldReach) {
  const auto a = leaf({3}), b = leaf({3}), c = leaf({3});
  const auto loss = (a.exp() * b).sum();
  EXPECT_EQ(reached_by(loss).size(), 2);
  EXPECT_FALSE(isolated(loss, {a}));
  EXPECT_TRUE(isolated(loss, {c}));
}

TEST(ReachedBy, EndsWhereATensorIsDetached) {
  const auto a = leaf({3}), b = leaf({3});
  EXPECT_TRUE(isolated((a.exp().detach() * b).sum(), {a}));
}

}  // namespace
