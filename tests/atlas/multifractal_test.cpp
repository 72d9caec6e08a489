#include "cajal/atlas/multifractal.h"

#include <cmath>
#include <map>
#include <set>

#include "cajal/core/random.h"
#include "cajal/math/ranks.h"
#include "models/tiny.h"

namespace cajal::atlas {
namespace {

using namespace lm::testing;

// The definition, by loops over edges.
std::vector<double> slow_tau(const Distances& graph, double theta) {
  std::vector<std::vector<double>> nodes;
  std::set<double> radii;
  for (const auto& all : graph) {
    std::vector<double> kept;
    for (const double d : all)
      if (d > 1 && d <= theta) kept.push_back(std::nearbyint(d));
    if (kept.size() > 10) nodes.push_back(kept), radii.insert(kept.begin(), kept.end());
  }
  std::vector<double> tau;
  for (int q = -30; q <= 30; ++q) {
    std::vector<double> x, y;
    for (const double r : radii) {
      double z = 0;
      for (const auto& node : nodes) {
        double n = 1;
        for (const double d : node) n += d <= r;
        z += std::pow(n / static_cast<double>(node.size() + 1), q / 10.0);
      }
      x.push_back(std::log(r / *radii.rbegin())), y.push_back(std::log(z));
    }
    tau.push_back(math::fit_line(x, y).slope);
  }
  return tau;
}

Distances random_graph(uint64_t seed, int64_t nodes = 40, int64_t edges = 60) {
  Random random(seed);
  Distances out;
  for (int64_t n = 0; n < nodes; ++n) {
    auto& node = out.emplace_back();
    for (int64_t e = 0; e < edges; ++e) node.push_back(1 / std::abs(0.02 * random.normal()));
  }
  return out;
}

TEST(Multifractal, EqualsTheDefinitionByLoops) {
  const auto graph = random_graph(1);
  const auto slow = slow_tau(graph, 150);
  const auto fast = multifractal(graph);
  for (size_t i = 0; i < slow.size(); ++i) EXPECT_NEAR(fast.tau[i], slow[i], 1e-9) << i;
  EXPECT_EQ(fast.tau[30], 0);
}

TEST(Multifractal, OneDimensionHasOneExponentAndNoWidth) {
  const MultifractalOptions wide{.theta = 1e6};
  const auto s = multifractal(planted_graph({1.5}, 20, 10000, 100, 1), wide);
  EXPECT_NEAR(s.alpha_0, 1.5, 0.05);
  EXPECT_LE(s.width, 0.05);
  EXPECT_NEAR(*std::max_element(s.f.begin(), s.f.end()), 0, 1e-3);
  for (size_t i = 1; i < s.alpha.size(); ++i) EXPECT_LE(s.alpha[i], s.alpha[i - 1] + 1e-3);
}

TEST(Multifractal, TwoDimensionsMakeAWidthOfTheirDifference) {
  const MultifractalOptions wide{.theta = 1e6, .q_max = 10, .q_steps = 100};
  const auto s = multifractal(planted_graph({1, 2}, 20, 10000, 1000, 2), wide);
  EXPECT_NEAR(s.width, 1, 0.15);
}

TEST(Multifractal, DoesNotDependOnOrderOrThreads) {
  auto graph = random_graph(3, 700, 40);
  ThreadPool one(1), three(3);
  const auto a = multifractal(count_mass(graph, {}), {}, one);
  std::reverse(graph.begin(), graph.end());
  for (auto& node : graph) std::reverse(node.begin(), node.end());
  const auto b = multifractal(count_mass(graph, {}), {}, three);
  EXPECT_EQ(a.tau, b.tau);
  EXPECT_EQ(a.alpha_0, b.alpha_0);
}

TEST(Multifractal, OfTheWholeGraphEqualsThatOfAllItsEdges) {
  auto model = tiny_model(tiny_llama());
  const auto layers = edge_layers(model);
  ASSERT_EQ(layers.size(), 8u);
  Distances all;
  for (const auto& layer : layers) {
    EXPECT_EQ(layer.weight.size(0), layer.name.ends_with("out") ? 64 : 32);
    for (int64_t i = 0; i < layer.weight.size(0); ++i) {
      auto& node = all.emplace_back();
      for (int64_t j = 0; j < layer.weight.size(1); ++j)
        node.push_back(1 / std::abs(layer.weight[i][j].item<double>()));
    }
  }
  ThreadPool threads(2);
  const MultifractalOptions options{.theta = 30};
  const auto whole = multifractal(count_mass(layers, options, threads), options, threads);
  EXPECT_EQ(whole.tau, multifractal(all, options).tau);
}

TEST(Multifractal, QuantileScalingForgetsTheScaleOfTheWeights) {
  const auto graph = random_graph(4);
  auto scaled = graph;
  for (auto& node : scaled)
    for (auto& d : node) d *= 2;
  const MultifractalOptions options{.quantile = 0.75};
  EXPECT_EQ(multifractal(graph, options).tau, multifractal(scaled, options).tau);
  EXPECT_NE(multifractal(graph).alpha_0, multifractal(scaled).alpha_0);
}

TEST(SampleGraph, IsTheSameForTheSameSeedInEveryFamily) {
  for (const auto& json : {tiny_llama(), tiny_gpt_neox(), tiny_gpt2(), tiny_bert(), tiny_phi3()}) {
    auto model = tiny_model(json);
    const auto a = sample_graph(model, {.nodes = 8, .seed = 3}),
               b = sample_graph(model, {.nodes = 8, .seed = 3});
    EXPECT_EQ(a, b);
    EXPECT_NE(a, sample_graph(model, {.nodes = 8, .seed = 4}));
    EXPECT_EQ(a.size(), 2u * (8 + 8 + 8 + 16));
    EXPECT_EQ(a[0].size(), 24u);
  }
}

TEST(SampleGraph, CompatTakesFusedRowsAsTheyLie) {
  auto model = tiny_model(tiny_gpt_neox());
  EXPECT_NE(sample_graph(model, {.nodes = 8}), sample_graph(model, {.nodes = 8, .compat = true}));
  const auto whole = edge_layers(model)[0].weight, raw = edge_layers(model, true)[0].weight;
  EXPECT_FALSE(whole.equal(raw));
  EXPECT_TRUE(std::get<0>(whole.flatten().sort()).equal(std::get<0>(raw.flatten().sort())));
}

TEST(Emergence, IsZeroAtTheStart) {
  auto model = tiny_model(tiny_gpt2());
  const auto start = mean_spectrum(model, 3, {.theta = 60}, SpectrumFilter::none, {.nodes = 16});
  EXPECT_EQ(emergence(start, start), 0);
  EXPECT_EQ(start.samples, 3);
}

// Figures of the paper's published algorithm (analysis/multifractal.py) on these edge lists.
TEST(Multifractal, GivesTheFiguresOfThePublishedAlgorithm) {
  const auto graph = [](int64_t k) {
    Distances out;
    for (int64_t i = 0; i < 15; ++i) {
      auto& node = out.emplace_back();
      for (int64_t j = 0; j < 40; ++j)
        node.push_back(1.3 + 0.25 * static_cast<double>(k) +
                       static_cast<double>((i * 7 + j * j * 3 + i * j * (k + 1)) % (140 + 10 * k)));
    }
    return out;
  };
  const auto a = multifractal(graph(0)), b = multifractal(graph(1));
  EXPECT_NEAR(a.alpha_0, 0.876357886429, 1e-6);
  EXPECT_NEAR(a.width, 0.340030639744, 1e-6);
  EXPECT_NEAR(a.tau.front(), -2.952503900050, 1e-9);
  EXPECT_NEAR(a.tau.back(), 2.399826770938, 1e-9);
  EXPECT_NEAR(b.alpha_0, 0.942064922272, 1e-6);
  EXPECT_NEAR(b.width, 0.354467591901, 1e-6);
  SpectrumMean start, now;
  start.alpha_0 = a.alpha_0, start.width = a.width, now.alpha_0 = b.alpha_0, now.width = b.width;
  EXPECT_NEAR(emergence(start, now), -0.075369321574, 1e-6);
}

TEST(NodeDimensions, FindPlantedOnesAndNoneWithFewNeighbours) {
  auto graph = planted_graph({1, 2}, 1, 20000, 190, 5);
  graph.push_back({5, 6, 7});
  const auto d = node_dimensions(graph);
  EXPECT_NEAR(d[0], 1, 0.05);
  EXPECT_NEAR(d[1], 2, 0.1);
  EXPECT_EQ(d[2], 0);
}

TEST(WeightTails, TellHeavyFromLightTails) {
  torch::manual_seed(1);
  const auto normal = weight_tails({{"a", torch::randn({100, 200})}});
  const auto heavy = weight_tails({{"a", torch::rand({100, 200}).pow(-1.0 / 3)}});
  EXPECT_NEAR(normal.kurtosis, 3, 0.2);
  EXPECT_NEAR(heavy.hill, 3, 0.5);
  EXPECT_GT(normal.hill, heavy.hill);
}

TEST(Multifractal, SaysWhenNothingCounts) {
  EXPECT_NE(message([] {
              multifractal(Distances{{200, 300}});
            }).find("theta 150"),
            std::string::npos);
  EXPECT_THROW(multifractal(random_graph(1), {.theta = 1}), Error);
}

}  // namespace
}  // namespace cajal::atlas
