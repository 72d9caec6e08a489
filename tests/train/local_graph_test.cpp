#include "cajal/train/local_graph.h"

#include <gtest/gtest.h>

#include "cajal/train/saved_bytes.h"

namespace {
using namespace cajal;
using namespace cajal::train;

/// Two clouds of nodes, features that hint at the cloud.
GraphTask clouds(int64_t nodes = 60) {
  torch::manual_seed(3);
  const auto y = torch::arange(nodes).remainder(2);
  const auto x = 0.7 * torch::randn({nodes, 6}) + y.unsqueeze(1);
  std::vector<int64_t> from, to;
  for (int64_t i = 0; i < nodes; ++i)
    for (const int64_t step : {2, 4}) from.push_back(i), to.push_back((i + step) % nodes);
  const auto one =
      torch::stack({torch::tensor(from, torch::kLong), torch::tensor(to, torch::kLong)});
  return {graph::Features(x), torch::cat({one, one.flip(0)}, 1), y, 2};
}

GraphLearning quick() {
  GraphLearning o;
  o.layers = 2, o.hidden = 16, o.max_epochs = 300, o.optimizer.learning_rate = 0.01;
  return o;
}

constexpr GraphRule kRules[] = {GraphRule::backprop,        GraphRule::single_forward,
                                GraphRule::top_to_loss,     GraphRule::top_to_input,
                                GraphRule::label_appending, GraphRule::virtual_nodes,
                                GraphRule::perceptron};

double share_right(const GraphOutcome& out, const GraphTask& task, const torch::Tensor& nodes) {
  return out.predicted.index_select(0, nodes)
      .eq(task.labels.index_select(0, nodes))
      .to(torch::kDouble)
      .mean()
      .item<double>();
}

TEST(GraphLearning, EveryRuleLearnsCloudsThatAreEasyToTell) {
  const auto task = clouds();
  const auto split = split_nodes(task.labels, 5, 0, 1);
  for (const auto rule : kRules) {
    torch::manual_seed(1);
    const auto out = learn_nodes(task, split, rule, quick());
    EXPECT_GE(share_right(out, task, torch::cat({split.valid, split.test})), 0.75) << to_name(rule);
  }
}

// The trap: the official label appending lets labels of validation nodes in at test time.
TEST(GraphLearning, LabelsOfTestNodesChangeNeitherWeightsNorPredictions) {
  auto task = clouds();
  const auto split = split_nodes(task.labels, 5, 0, 1);
  for (const auto rule : kRules) {
    torch::manual_seed(1);
    const auto before = learn_nodes(task, split, rule, quick());
    auto shuffled = task;
    shuffled.labels =
        task.labels.index_copy(0, split.test, 1 - task.labels.index_select(0, split.test));
    torch::manual_seed(1);
    const auto after = learn_nodes(shuffled, split, rule, quick());
    EXPECT_TRUE(torch::equal(before.predicted, after.predicted)) << to_name(rule);
    for (size_t i = 0; i < before.parameters.size(); ++i)
      EXPECT_TRUE(torch::equal(before.parameters[i], after.parameters[i])) << to_name(rule);
  }
}

// The trap: the official code has a sum in training and a mean in prediction under one name.
TEST(GraphTraps, GoodnessIsASumInTrainingAndAMeanInPrediction) {
  const auto h = torch::tensor({{1.0, 2.0, 3.0}, {0.0, 0.0, 1.0}});
  EXPECT_TRUE(torch::allclose(training_surplus(h, 2), torch::tensor({12.0, -1.0})));
  EXPECT_TRUE(torch::allclose(prediction_surplus(h, 2), torch::tensor({8.0 / 3, -5.0 / 3})));
}

// The trap: the official bottom-up pass of top-to-input feeds raw states where training feeds
// normed ones. One time step by hand, all states directions, predicts what the rule predicts.
TEST(GraphTraps, TheBottomUpPassOfTopToInputFeedsNormedStates) {
  const auto task = clouds();
  const auto split = split_nodes(task.labels, 5, 0, 1);
  auto o = quick();
  o.max_epochs = 20, o.time_steps = 1;
  torch::manual_seed(5);
  const auto out = learn_nodes(task, split, GraphRule::top_to_input, o);
  torch::manual_seed(5);
  const auto class_features = torch::randn({2, 6});  // what the rule draws first
  const torch::NoGradGuard no_grad;
  const auto y = task.labels.index_select(0, split.train);
  const auto graph = with_class_nodes(task, split.train, y, VirtualEdges::both, class_features);
  const auto wiring = graph::wire(o.convolution, graph.edges, graph.features.rows());
  const graph::AnyConvolution first(o.convolution, 6 + 16, 16), second(o.convolution, 16 + 2, 16);
  size_t next = 0;
  for (const auto& layer : {first, second})
    for (auto p : layer.parameters()) p.copy_(out.parameters.at(next++));
  ASSERT_EQ(next, out.parameters.size());
  const auto direction = [](const torch::Tensor& h) {
    return graph::Features(h).directions().dense;
  };
  auto labels = torch::full({graph.features.rows(), 2}, 0.5);
  labels.index_copy_(0, split.train, torch::one_hot(y, 2).to(torch::kFloat));
  labels.index_copy_(0, graph.ids, torch::eye(2));
  labels = direction(labels);
  const auto bottom = graph.features.directions();
  const auto up = [&](const torch::Tensor& above) { return first(bottom.beside(above), wiring); };
  const auto top = [&](const torch::Tensor& below) {
    return second(graph::Features(below).beside(labels), wiring);
  };
  const auto low = direction(up(torch::zeros({graph.features.rows(), 16})));
  const auto high = direction(top(low));
  auto votes = torch::zeros({task.nodes(), 2});
  for (const auto& h : {up(high), top(low)})
    votes += h.narrow(0, 0, task.nodes()).matmul(h.index_select(0, graph.ids).t()).softmax(1);
  EXPECT_TRUE(torch::equal(votes.argmax(1), out.predicted));
}

TEST(GraphLearning, NoGradientCrossesLayers) {
  const auto task = clouds();
  const auto known = torch::arange(20);
  const auto y = task.labels.index_select(0, known);
  const auto graph = with_class_nodes(task, known, y, VirtualEdges::both, torch::randn({2, 6}));
  for (const auto kind :
       {graph::Convolution::gcn, graph::Convolution::sage, graph::Convolution::gat}) {
    const auto wiring = graph::wire(kind, graph.edges, graph.features.rows());
    const graph::AnyConvolution below(kind, 6, 8), own(kind, 8, 8);
    const auto h = below(graph.features.directions(), wiring);
    const auto loss = class_node_loss(own, graph::Features(h), wiring, known, y, graph.ids, 1);
    EXPECT_TRUE(isolated(loss, below.parameters()));
    const auto gradients = torch::autograd::grad({loss}, below.parameters(), {}, {}, false, true);
    for (const auto& g : gradients) EXPECT_FALSE(g.defined());
    EXPECT_EQ(reached_by(loss).size(), own.parameters().size());
  }
}

TEST(ClassNodes, AreLinkedToTrainingNodesAlone) {
  const auto task = clouds();
  const auto known = torch::tensor({0, 1, 2}, torch::kLong);
  const auto y = task.labels.index_select(0, known);
  const auto one_way =
      with_class_nodes(task, known, y, VirtualEdges::to_class, torch::randn({2, 6}));
  const auto both = with_class_nodes(task, known, y, VirtualEdges::both, torch::randn({2, 6}));
  EXPECT_EQ(one_way.edges.size(1), task.edges.size(1) + 3);
  EXPECT_EQ(both.edges.size(1), task.edges.size(1) + 6);
  const auto added = one_way.edges.narrow(1, task.edges.size(1), 3);
  EXPECT_TRUE(torch::equal(added[0], known));
  EXPECT_TRUE(torch::equal(added[1], y + task.nodes()));
}

TEST(GraphLearning, SavedBytesOfSingleForwardDoNotGrowWithDepth) {
  auto task = clouds(200);
  task.features = graph::Features(torch::randn({200, 16}));
  const auto split = split_nodes(task.labels, 5, 0, 1);
  auto o = quick();
  o.max_epochs = 1;
  const auto saved = [&](GraphRule rule, int64_t layers) {
    o.layers = layers;
    return static_cast<double>(learn_nodes(task, split, rule, o).saved_bytes);
  };
  EXPECT_LE(saved(GraphRule::single_forward, 8), 1.3 * saved(GraphRule::single_forward, 1));
  EXPECT_GE(saved(GraphRule::backprop, 8), 3 * saved(GraphRule::backprop, 2));
}

TEST(SplitNodes, HasEveryLabelledNodeInOnePart) {
  auto labels = torch::zeros({103}, torch::kLong);
  labels[5] = -1;
  const auto s = split_nodes(labels, 5, 2, 100);
  const auto all = std::get<0>(torch::cat({s.train, s.valid, s.test}).sort());
  EXPECT_EQ(all.numel(), 102);
  EXPECT_EQ(std::get<0>(at::_unique(all)).numel(), 102);
  EXPECT_TRUE(all.ne(5).all().item<bool>());
}

TEST(SplitLinks, KeepsTestLinksOutOfTraining) {
  const auto task = clouds();
  const auto s = split_links(task.edges, task.nodes(), 1);
  const auto code = [&](const torch::Tensor& pairs) { return pairs[0] * 1000 + pairs[1]; };
  const auto train = code(s.train), test = code(s.test), absent = code(s.test_absent),
             links = code(task.edges);
  EXPECT_FALSE(torch::isin(test, train).any().item<bool>());
  EXPECT_FALSE(torch::isin(absent, links).any().item<bool>());
  EXPECT_EQ(test.numel(), absent.numel());
}

TEST(LinkPrediction, FindsLinksOfARing) {
  const auto task = clouds();
  torch::manual_seed(1);
  auto o = quick();
  o.max_epochs = 60;
  for (const auto loss : {LinkLoss::cross_entropy, LinkLoss::goodness})
    EXPECT_GT(learn_links(task, split_links(task.edges, task.nodes(), 1), loss, o).auc, 0.55)
        << to_name(loss);
}

TEST(AreaUnderCurve, CountsTiesHalf) {
  EXPECT_DOUBLE_EQ(area_under_curve(torch::tensor({2.f, 1.f}), torch::tensor({1.f, 0.f})), 0.875);
}

TEST(LabelPropagation, KeepsKnownLabelsAndReachesTheirCloud) {
  const auto task = clouds();
  const auto out = label_propagation(task, torch::tensor({0, 1}, torch::kLong), 200);
  EXPECT_TRUE(torch::equal(out, task.labels));
}

}  // namespace
