#include "cajal/train/saved_bytes.h"

#include <gtest/gtest.h>

namespace {
using namespace cajal::train;

torch::Tensor leaf(torch::IntArrayRef shape) { return torch::randn(shape).requires_grad_(); }

TEST(SavedBytes, CountsWhatExpKeepsWhichIsItsResult) {
  const auto x = leaf({1000});
  const SavedBytes meter;
  const auto y = x.exp();
  EXPECT_EQ(meter.live(), 4000);
}

TEST(SavedBytes, CountsAStorageOnceHoweverManyOperationsHoldIt) {
  const auto x = leaf({1000});
  const SavedBytes meter;
  const auto y = x.exp();
  const auto z = y * y + y.view({10, 100}).reshape({1000}).sin();
  EXPECT_EQ(meter.live(), 4000);
}

TEST(SavedBytes, DoesNotCountWeightsThatItWasTold) {
  const auto x = torch::randn({8, 100}), weight = leaf({50, 100});
  const SavedBytes meter({weight});
  const auto y = torch::linear(x, weight).sum();
  EXPECT_EQ(meter.live(), 8 * 100 * 4);  // the input alone
}

TEST(SavedBytes, FallsToZeroAfterTheBackwardPassAndKeepsThePeak) {
  const auto x = leaf({1000});
  const SavedBytes meter;
  const auto loss = x.exp().sin().sum();
  loss.backward();
  EXPECT_EQ(meter.live(), 0);
  EXPECT_EQ(meter.peak(), 4000);  // sin keeps the result of exp, which exp keeps too
}

TEST(SavedBytes, LeavesGradientsAsTheyAre) {
  const auto x = leaf({64}), w = leaf({32, 64});
  const auto loss = [&] { return torch::relu(torch::linear(x.exp(), w)).square().sum(); };
  const auto plain = torch::autograd::grad({loss()}, {x, w});
  const SavedBytes meter;
  const auto metered = torch::autograd::grad({loss()}, {x, w});
  EXPECT_TRUE(torch::equal(plain[0], metered[0]) && torch::equal(plain[1], metered[1]));
}

TEST(SavedBytes, MayEndBeforeTheGraphThatItMetered) {
  const auto x = leaf({10});
  torch::Tensor loss;
  {
    const SavedBytes meter;
    loss = x.exp().sum();
  }
  loss.backward();
  EXPECT_TRUE(torch::allclose(x.grad(), x.detach().exp()));
}

TEST(SavedBytes, CountsNothingWithoutAGraph) {
  const torch::NoGradGuard no_grad;
  const auto x = leaf({10});
  const SavedBytes meter;
  const auto y = x.exp();
  EXPECT_EQ(meter.total(), 0);
}

TEST(AllocatedBytes, SeesABlockComeAndGo) {
  const AllocatedBytes meter;
  {
    const auto x = torch::empty({100'000});
    EXPECT_GE(meter.live(), 400'000);
  }
  EXPECT_LT(meter.live(), 1000);
  EXPECT_GE(meter.peak(), 400'000);
}

TEST(AllocatedBytes, PeakOfADeepChainIsLargerWithAGraphThanWithout) {
  const auto x = leaf({100'000});
  const auto peak = [&] {
    const AllocatedBytes meter;
    auto y = x.exp();
    for (int i = 0; i < 8; ++i) y = y.tanh();
    return meter.peak();
  };
  const auto with = peak();
  const torch::NoGradGuard no_grad;
  EXPECT_GE(with, 4 * peak());
}

}  // namespace
