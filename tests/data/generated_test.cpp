#include <gtest/gtest.h>

#include <algorithm>

#include "cajal/data/block_model.h"
#include "cajal/data/shapes.h"

namespace {
using namespace cajal::data;

TEST(Shapes, AreTheSameForTheSameSeedOnly) {
  EXPECT_EQ(shapes(20, 1).images.bytes, shapes(20, 1).images.bytes);
  EXPECT_NE(shapes(20, 1).images.bytes, shapes(20, 2).images.bytes);
}

TEST(Shapes, ComeInTenClassesInTurn) {
  const auto all = shapes(20, 1);
  EXPECT_EQ(all.images.shape, (std::vector<int64_t>{20, 3, 32, 32}));
  for (size_t i = 0; i < 20; ++i) EXPECT_EQ(all.labels[i], i % 10);
}

TEST(Shapes, RefuseAShapeLargerThanThePicture) {
  ShapesOptions o;
  o.size = 16;
  EXPECT_THROW(shapes(1, 1, o), cajal::Error);
}

TEST(BlockModel, LinksMostlyWithinClasses) {
  BlockModelOptions o;
  o.nodes = 4000, o.features = 4;
  const auto graph = block_model(o, 1);
  const auto within = std::count_if(graph.edges.begin(), graph.edges.end(), [&](const auto& e) {
    return graph.labels[e.first] == graph.labels[e.second];
  });
  // Each node has 10 neighbours in its class and 1 in the others; an edge serves two nodes.
  EXPECT_NEAR(static_cast<double>(within), 4000 * 10 / 2, 1000);
  EXPECT_NEAR(static_cast<double>(graph.edges.size()) - static_cast<double>(within), 4000 / 2, 300);
}

TEST(BlockModel, HoldsEachEdgeOnceInAscendingOrder) {
  BlockModelOptions o;
  o.nodes = 500, o.features = 1;
  const auto edges = block_model(o, 3).edges;
  EXPECT_TRUE(std::is_sorted(edges.begin(), edges.end()));
  EXPECT_EQ(std::adjacent_find(edges.begin(), edges.end()), edges.end());
  for (const auto& [u, v] : edges) EXPECT_LT(u, v);
}

TEST(BlockModel, RefusesMoreNeighboursThanAClassHas) {
  BlockModelOptions o;
  o.nodes = 16;
  EXPECT_THROW(block_model(o, 1), cajal::Error);
}

}  // namespace
