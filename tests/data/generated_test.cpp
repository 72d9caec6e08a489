#include <gtest/gtest.h>

#include <algorithm>

#include "cajal/data/block_model.h"
#include "cajal/data/patches.h"
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

/// Grey, each sample the column it stands in.
Image columns(int64_t width, int64_t height) {
  Image out{.width = width, .height = height, .channels = 1, .samples = {}};
  for (int64_t i = 0; i < width * height; ++i)
    out.samples.push_back(static_cast<uint16_t>(i % width));
  return out;
}

TEST(TexturePatches, OfTwoPartsOfAPictureShareNoPixel) {
  const std::vector<Image> pictures{columns(100, 40), columns(100, 50)};
  const auto left = texture_patches(pictures, 60, 1, {.size = 16, .from = 0, .to = 0.7});
  const auto right = texture_patches(pictures, 60, 1, {.size = 16, .from = 0.7, .to = 1});
  const auto most = *std::max_element(left.images.bytes.begin(), left.images.bytes.end());
  const auto least = *std::min_element(right.images.bytes.begin(), right.images.bytes.end());
  EXPECT_LT(most, least);
  EXPECT_EQ(left.images.shape, (std::vector<int64_t>{60, 16, 16}));
}

TEST(TexturePatches, BearThePictureTheyComeFrom) {
  auto dark = columns(40, 40), bright = dark;
  std::fill(dark.samples.begin(), dark.samples.end(), uint16_t{10});
  std::fill(bright.samples.begin(), bright.samples.end(), uint16_t{200});
  const auto patches = texture_patches({dark, bright}, 6, 3, {.size = 8});
  for (size_t i = 0; i < 6; ++i)
    EXPECT_EQ(static_cast<int>(patches.images.bytes[i * 64]), patches.labels[i] == 0 ? 10 : 200);
}

TEST(TexturePatches, RefuseAPictureThatIsTooNarrow) {
  EXPECT_THROW(texture_patches({columns(40, 40)}, 2, 1, {.size = 16, .from = 0.7, .to = 1}),
               cajal::Error);
  EXPECT_THROW(texture_patches({}, 2, 1), cajal::Error);
}

}  // namespace
