#include "cajal/train/forward_forward.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "gradcheck.h"

namespace {
using namespace cajal;
using namespace cajal::train;

ForwardForwardNet small_net(Goodness kind = Goodness::l2) {
  torch::manual_seed(1);
  ForwardForwardNetOptions o;
  o.inputs = 12, o.width = 9, o.layers = 3, o.classes = 4, o.goodness = kind, o.threshold = 0.7;
  return ForwardForwardNet(o);
}

TEST(Goodness, IsWhatItsNameSays) {
  const auto h = torch::tensor({{3.0, -4.0}});
  EXPECT_DOUBLE_EQ(goodness(Goodness::l2, h).item<double>(), 5);
  EXPECT_DOUBLE_EQ(goodness(Goodness::l1, h).item<double>(), 7);
  EXPECT_DOUBLE_EQ(goodness(Goodness::linf, h).item<double>(), 4);
  EXPECT_DOUBLE_EQ(goodness(Goodness::sum_squares, h).item<double>(), 25);
  EXPECT_DOUBLE_EQ(goodness(Goodness::mean_squares, h).item<double>(), 12.5);
}

// The trap: log(1 + exp(x)) is infinite from 89 on in fp32.
TEST(Goodness, SoftplusDoesNotOverflow) {
  const auto y = stable_softplus(torch::tensor({-200.f, 0.f, 200.f}));
  EXPECT_FLOAT_EQ(y[2].item<float>(), 200);
  EXPECT_FLOAT_EQ(y[1].item<float>(), std::log(2.f));
  EXPECT_GE(y[0].item<float>(), 0);
}

TEST(Goodness, LossIsTheMeanOverTheStackedBatch) {
  const auto positive = torch::tensor({1.0, 2.0}), negative = torch::tensor({0.5, 4.0});
  const auto soft = [](double x) { return std::log1p(std::exp(x)); };
  EXPECT_NEAR(goodness_loss(positive, negative, 3).item<double>(),
              (soft(2) + soft(1) + soft(-2.5) + soft(1)) / 4, 1e-6);
}

TEST(ForwardForward, LossGradientEqualsFiniteDifferences) {
  for (const auto kind : {Goodness::l2, Goodness::l1, Goodness::mean_squares}) {
    auto net = small_net(kind);
    net->to(torch::kDouble);
    const auto positive = torch::rand({5, 12}, torch::kDouble);
    const auto negative = torch::rand({5, 12}, torch::kDouble);
    EXPECT_LT(cajal::testing::gradient_error([&] { return layer_loss(net, 0, positive, negative); },
                                             net->layers[0]->parameters()),
              1e-4)
        << to_name(kind);
  }
}

TEST(ForwardForward, NoGradientCrossesLayers) {
  auto net = small_net();
  const auto x = torch::rand({5, 12});
  const auto h = net->layers[0]->forward(x);  // with a graph, as a careless trainer would pass it
  const auto loss = layer_loss(net, 1, h, h);
  EXPECT_TRUE(isolated(loss, net->layers[0]->parameters()));
  EXPECT_TRUE(isolated(loss, net->layers[2]->parameters()));
  EXPECT_FALSE(isolated(loss, net->layers[1]->parameters()));
}

TEST(ForwardForward, TheSummedLossReachesEveryLayer) {
  auto net = small_net();
  const auto loss = summed_loss(net, torch::rand({5, 12}), torch::rand({5, 12}));
  EXPECT_EQ(reached_by(loss).size(), 6);
}

TEST(ForwardForward, LengthOfTheInputDoesNotPassToTheNextLayer) {
  auto net = small_net();
  const auto x = torch::rand({5, 12});
  EXPECT_TRUE(
      torch::allclose(net->layers[0]->forward(x), net->layers[0]->forward(7 * x), 1e-5, 1e-6));
}

TEST(Overlay, WritesTheLabelIntoTheFirstPixels) {
  const auto y = overlay(torch::full({2, 6}, 5.f), torch::tensor({2, -1}), 3, 9);
  EXPECT_TRUE(torch::equal(
      y, torch::tensor({{0.f, 0.f, 9.f, 5.f, 5.f, 5.f}, {0.f, 0.f, 0.f, 5.f, 5.f, 5.f}})));
}

TEST(Overlay, WritesIntoTheFirstRowOfEveryChannel) {
  const auto y = overlay(torch::full({1, 2, 3, 4}, 5.f), torch::tensor({1}), 3, 9);
  for (int c = 0; c < 2; ++c) {
    EXPECT_TRUE(torch::equal(y[0][c][0], torch::tensor({0.f, 9.f, 0.f, 5.f})));
    EXPECT_TRUE(y[0][c].narrow(0, 1, 2).eq(5).all().item<bool>());
  }
}

// The trap: the official overlay writes the maximum of the batch.
TEST(Overlay, DoesNotDependOnTheRestOfTheBatch) {
  const auto x = torch::rand({2, 6});
  auto bright = x.clone();
  bright[1] *= 100;
  const auto labels = torch::tensor({0, 1});
  EXPECT_TRUE(torch::equal(overlay(x, labels, 3, 1)[0], overlay(bright, labels, 3, 1)[0]));
}

TEST(Overlay, RefusesALabelBeyondTheClasses) {
  EXPECT_THROW(overlay(torch::rand({1, 6}), torch::tensor({3}), 3, 1), Error);
}

TEST(Negatives, AreWrongAndDrawnWithoutReplacement) {
  const auto labels = torch::randint(4, {200}, torch::kLong);
  const auto drawn = draw_negatives(labels, 4);
  EXPECT_FALSE(drawn.label.eq(labels.index_select(0, drawn.sample)).any().item<bool>());
  std::set<std::pair<int64_t, int64_t>> pairs;
  for (int64_t i = 0; i < 200; ++i)
    pairs.insert({drawn.sample[i].item<int64_t>(), drawn.label[i].item<int64_t>()});
  EXPECT_EQ(pairs.size(), 200);
}

TEST(ForwardForward, LearnsTwoClassesThatAreEasyToTell) {
  torch::manual_seed(2);
  ForwardForwardNetOptions o;
  o.inputs = 20, o.width = 32, o.layers = 2, o.classes = 2, o.threshold = 1;
  const auto y = torch::randint(2, {256}, torch::kLong);
  const auto x = 0.3 * torch::randn({256, 20}) + (y.unsqueeze(1) * 2 - 1) * torch::ones({20});
  ForwardForwardTraining training;
  training.epochs = 30, training.batch = 32, training.optimizer.learning_rate = 0.01;
  ForwardForwardNet net(o);
  train_forward_forward(net, x, y, training);
  EXPECT_GT(predict_labels(net, x).eq(y).to(torch::kFloat).mean().item<float>(), 0.95);
  EXPECT_GT(predict_labels(net, x, LabelVote::raw, 1).eq(y).to(torch::kFloat).mean().item<float>(),
            0.9);
}

// The trap: a first layer that a greedy trainer goes on changing, or one that it never trains.
TEST(ForwardForward, TrainsTheFirstLayerAsIfItWereAlone) {
  const auto x = torch::rand({64, 12});
  const auto y = torch::randint(4, {64}, torch::kLong);
  ForwardForwardTraining training;
  training.epochs = 2, training.batch = 16;
  const auto first = [&](int64_t layers) {
    torch::manual_seed(5);
    ForwardForwardNetOptions o;
    o.inputs = 12, o.width = 12, o.layers = layers, o.classes = 4;
    ForwardForwardNet net(o);
    torch::manual_seed(6);
    const auto before = net->layers[0]->weight.detach().clone();
    train_forward_forward(net, x, y, training);
    EXPECT_FALSE(torch::equal(before, net->layers[0]->weight));
    return net->layers[0]->weight;
  };
  EXPECT_TRUE(torch::equal(first(1), first(3)));
}

}  // namespace
