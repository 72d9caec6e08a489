#include <gtest/gtest.h>

#include "cajal/layers/graph/convolution.h"
#include "cajal/layers/layer.h"
#include "gradcheck.h"

namespace {
using namespace cajal;
using graph::Convolution;

// Six nodes: a path, a loop that was given, a node alone (5), an edge one way only.
torch::Tensor toy_edges() {
  return torch::tensor({{0, 1, 1, 2, 2, 3, 3, 0}, {1, 0, 2, 1, 3, 2, 3, 4}}, torch::kLong);
}

/// A[to, from]; each edge counts.
torch::Tensor dense_adjacency(const torch::Tensor& edges, int64_t nodes, bool loops) {
  auto a = torch::zeros({nodes, nodes}, torch::kDouble);
  for (int64_t e = 0; e < edges.size(1); ++e) {
    const auto from = edges[0][e].item<int64_t>(), to = edges[1][e].item<int64_t>();
    if (!loops || from != to) a[to][from] += 1;
  }
  return loops ? a + torch::eye(nodes, torch::kDouble) : a;
}

struct Toy {
  torch::Tensor x = (torch::manual_seed(4), torch::randn({6, 5}, torch::kDouble)),
                edges = toy_edges();
};

double distance(const torch::Tensor& a, const torch::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

TEST(Gcn, EqualsTheDenseFormula) {
  const Toy toy;
  Gcn layer(GcnOptions{5, 4});
  layer->to(torch::kDouble);
  const auto a = dense_adjacency(toy.edges, 6, true);
  const auto d = a.sum(1).rsqrt().diag();
  const auto expected = d.mm(a).mm(d).mm(toy.x).mm(layer->weight.t()) + layer->bias;
  EXPECT_LT(distance(layer->forward(toy.x, toy.edges), expected), 1e-12);
}

TEST(GraphSage, EqualsTheDenseFormulaAndTheMeanOfNobodyIsZero) {
  const Toy toy;
  GraphSage layer(GraphSageOptions{5, 4});
  layer->to(torch::kDouble);
  const auto a = dense_adjacency(toy.edges, 6, false);
  const auto mean = a / a.sum(1, true).clamp_min(1);
  const auto expected =
      mean.mm(toy.x).mm(layer->weight_l.t()) + toy.x.mm(layer->weight_r.t()) + layer->bias;
  EXPECT_LT(distance(layer->forward(toy.x, toy.edges), expected), 1e-12);
}

TEST(Gat, EqualsTheDenseFormula) {
  const Toy toy;
  GatOptions options{5, 8};
  options.heads = 2;
  Gat layer(options);
  layer->to(torch::kDouble);
  const auto there = dense_adjacency(toy.edges, 6, true) > 0;
  std::vector<torch::Tensor> heads;
  for (int64_t k = 0; k < 2; ++k) {
    const auto h = toy.x.mm(layer->weight.narrow(0, 4 * k, 4).t());
    const auto score = torch::leaky_relu(
        h.mv(layer->target[k]).unsqueeze(1) + h.mv(layer->source[k]).unsqueeze(0), 0.2);
    heads.push_back(score.masked_fill(there.logical_not(), -INFINITY).softmax(1).mm(h));
  }
  EXPECT_LT(distance(layer->forward(toy.x, toy.edges), torch::cat(heads, 1) + layer->bias), 1e-12);
}

TEST(GraphConvolutions, HaveTheGradientsOfFiniteDifferences) {
  const Toy toy;
  Gcn gcn(GcnOptions{5, 4});
  GraphSage sage(GraphSageOptions{5, 4});
  Gat gat(GatOptions{5, 4});
  const auto check = [&](auto layer) {
    layer->to(torch::kDouble);
    auto inputs = layer->parameters();
    inputs.push_back(toy.x);
    return cajal::testing::gradient_error([&] { return layer->forward(toy.x, toy.edges); }, inputs);
  };
  EXPECT_LT(check(gcn), 1e-6);
  EXPECT_LT(check(sage), 1e-6);
  EXPECT_LT(check(gat), 1e-6);
}

TEST(GraphConvolutions, PermuteTheirOutputsWithTheNodes) {
  const auto x = torch::randn({6, 5});
  const auto order = torch::tensor({3, 0, 5, 1, 4, 2}, torch::kLong);  // new id of each node
  auto moved = torch::empty_like(x);
  moved.index_copy_(0, order, x);
  const auto edges = toy_edges(), renamed = order.index_select(0, edges.flatten()).view_as(edges);
  for (const auto kind : {Convolution::gcn, Convolution::sage, Convolution::gat}) {
    const graph::AnyConvolution layer(kind, 5, 8);
    const auto y = layer(x, graph::wire(kind, edges, 6));
    const auto z = layer(moved, graph::wire(kind, renamed, 6));
    EXPECT_LT(distance(z.index_select(0, order), y), 1e-5) << to_name(kind);
  }
}

TEST(GraphFeatures, SparseOnesGiveWhatDenseOnesGive) {
  const auto x = torch::randn({6, 9}) * (torch::rand({6, 9}) > 0.5);
  const auto places = x.nonzero();
  const graph::Features sparse(graph::pattern(places.select(1, 0), places.select(1, 1), 6, 9),
                               x.masked_select(x.ne(0)));
  const auto weight = torch::randn({4, 11}), more = torch::randn({6, 2}),
             rows = torch::randn({3, 11});
  const auto a = sparse.beside(more).above(rows).directions();
  const auto b = graph::Features(torch::cat({torch::cat({x, more}, 1), rows})).directions();
  EXPECT_LT(distance(a.times(weight), b.times(weight)), 1e-5);
}

TEST(GraphPattern, RefusesANodeThatIsNotThere) {
  EXPECT_THROW(graph::messages(torch::tensor({{0}, {6}}, torch::kLong), 6), Error);
}

TEST(Gat, RefusesHeadsThatDoNotDivideTheOutputs) { EXPECT_THROW(Gat(GatOptions{5, 6}), Error); }

}  // namespace
