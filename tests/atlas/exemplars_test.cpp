#include "cajal/atlas/exemplars.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "cajal/core/error.h"

namespace cajal::atlas {
namespace {

UnitMaps maps_of(int64_t pictures) {
  torch::manual_seed(4);
  return {torch::relu(torch::randn({pictures, 5, 6, 6})), torch::randn({pictures, 7, 3, 3})};
}

Exemplars in_batches(const UnitMaps& maps, int64_t batch, const ExemplarOptions& options) {
  ExemplarPass pass(options);
  for (int64_t at = 0; at < maps[0].size(0); at += batch) {
    UnitMaps some;
    for (const auto& layer : maps)
      some.push_back(layer.slice(0, at, std::min(maps[0].size(0), at + batch)));
    pass.add(some);
  }
  return pass.finish();
}

TEST(Exemplars, OfOnePassAreThoseOfAFullSort) {
  const auto maps = maps_of(50);
  const auto found = in_batches(maps, 7, {.top = 4, .exact = true});
  const auto expected = naive_exemplars(maps, {.top = 4});
  EXPECT_TRUE(torch::equal(found.pictures, expected.pictures));
  EXPECT_TRUE(torch::equal(found.scores, expected.scores));
  EXPECT_TRUE(torch::equal(exemplar_masks(found, 12), exemplar_masks(expected, 12)));
  const auto level = torch::quantile(maps[0].select(1, 2).flatten(), 0.99);
  EXPECT_NEAR(found.levels[2].item<float>(), level.item<float>(), 1e-6);
}

TEST(Exemplars, DoNotDependOnTheBatches) {
  const auto maps = maps_of(40);
  const auto a = in_batches(maps, 40, {.top = 3}), b = in_batches(maps, 1, {.top = 3});
  EXPECT_TRUE(torch::equal(a.pictures, b.pictures));
  EXPECT_TRUE(torch::equal(a.maps[0], b.maps[0]));
}

TEST(Exemplars, MasksAreWhereTheUpsampledMapExceedsTheLevel) {
  const auto maps = maps_of(20);
  const auto found = in_batches(maps, 8, {.top = 2, .exact = true});
  const auto masks = exemplar_masks(found, 12);
  ASSERT_EQ(masks.sizes(), torch::IntArrayRef({12, 2, 12, 12}));
  const auto picture = found.pictures[8][1].item<int64_t>();
  const auto big = at::upsample_bilinear2d(maps[1].slice(0, picture, picture + 1).slice(1, 3, 4),
                                           {12, 12}, false)[0][0];
  EXPECT_TRUE(torch::equal(masks[8][1], big > found.levels[8]));
}

TEST(Exemplars, RefuseFewPicturesAndOtherLayers) {
  ExemplarPass pass({.top = 9});
  pass.add({torch::zeros({3, 2, 4, 4})});
  EXPECT_THROW(pass.finish(), Error);
  EXPECT_THROW(pass.add({torch::zeros({3, 3, 4, 4})}), Error);
  EXPECT_THROW(pass.add({torch::zeros({3, 2, 5, 4})}), Error);
  EXPECT_THROW(ExemplarPass({.top = 0}), Error);
}

TEST(PoolUnderMasks, IsTheWeightedSumAndZeroForAnEmptyMask) {
  const auto x = torch::randn({2, 3, 4, 4});
  auto masks = torch::zeros({2, 4, 4});
  masks[0][1][2] = 1, masks[0][3][3] = 1;
  const auto y = pool_under_masks({x}, masks);
  const auto expected = (x[0].select(1, 1).select(1, 2) + x[0].select(1, 3).select(1, 3)) / 2;
  EXPECT_LT((y[0] - expected).abs().max().item<double>(), 1e-6);
  EXPECT_EQ(y[1].abs().max().item<double>(), 0);
}

}  // namespace
}  // namespace cajal::atlas
