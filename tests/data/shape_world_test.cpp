#include "cajal/data/shape_world.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "cajal/core/error.h"

namespace cajal::data {
namespace {

TEST(ShapeWorld, IsTheSameForTheSameSeed) {
  const auto a = shape_world(20, 7), b = shape_world(20, 7), c = shape_world(20, 8);
  EXPECT_EQ(a.images.bytes, b.images.bytes);
  EXPECT_NE(a.images.bytes, c.images.bytes);
}

TEST(ShapeWorld, EveryObjectOwnsPixelsOfItsColour) {
  const auto world = shape_world(30, 1, {.noise = 0});
  const auto owner = world.owner.values<uint8_t>(), pixels = world.images.values<uint8_t>();
  for (size_t i = 0; i < 30; ++i)
    for (size_t k = 0; k < world.objects[i].size(); ++k) {
      const auto* own = owner.data() + i * 48 * 48;
      int count = 0, red = 0;
      for (int p = 0; p < 48 * 48; ++p)
        if (own[p] == k + 1) ++count, red += pixels[i * 3 * 48 * 48 + static_cast<size_t>(p)] > 200;
      EXPECT_GT(count, 10);
      if (world.objects[i][k].colour == 0 && world.objects[i][k].texture == 0) {
        EXPECT_EQ(red, count);
      }
    }
}

TEST(ShapeWorld, InitialsAreThoseOfTheFirstShape) {
  const auto world = shape_world(200, 3, {.most = 1, .initial_share = 0.5});
  const auto with = std::count(world.has_initial.begin(), world.has_initial.end(), 1);
  EXPECT_GT(with, 70);
  EXPECT_LT(with, 130);
  for (size_t i = 0; i < 200; ++i) {
    EXPECT_EQ(world.objects[i].size(), 1u + world.has_initial[i]);
    if (world.has_initial[i]) {
      EXPECT_EQ(world.objects[i].back().letter,
                kWorldLetters[static_cast<size_t>(world.objects[i][0].shape)]);
    }
  }
}

TEST(ShapeWorld, KindsTellInsideFromRims) {
  const auto world = shape_world(10, 5, {.most = 1});
  const auto kinds = pixel_kinds(world);
  const auto values = kinds.values<int16_t>();
  const auto owner = world.owner.values<uint8_t>();
  int64_t places[4] = {};
  for (size_t p = 0; p < values.size(); ++p) {
    const auto kind = values[p];
    const int64_t place = kind / kWorldKinds;
    ++places[place];
    EXPECT_EQ(owner[p] > 0, place < 2);
    if (place < 3) {
      EXPECT_EQ(kind % kWorldKinds, world_kind(world.objects[p / (48 * 48)][0]));
    }
  }
  for (const auto count : places) EXPECT_GT(count, 100);
}

TEST(ShapeWorld, RefusesWhatCannotBeDrawn) {
  EXPECT_THROW(shape_world(0, 1), Error);
  EXPECT_THROW(shape_world(1, 1, {.size = 8}), Error);
  EXPECT_THROW(shape_world(1, 1, {.fewest = 3, .most = 2}), Error);
  EXPECT_THROW(shape_world(1, 1, {.smallest = 30, .largest = 60}), Error);
  EXPECT_THROW(shape_world(int64_t{1} << 60, 1), Error);
}

}  // namespace
}  // namespace cajal::data
