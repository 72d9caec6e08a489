#include "cajal/kernels/places.h"

#include <gtest/gtest.h>

#include "kernels/every_target.h"

namespace cajal {
namespace {

constexpr int kCount = 75;  // no whole number of vectors

TEST(LoudPlaces, AreThoseOfLargerValuesAndOfNansOnEveryTarget) {
  auto x = normals(kCount, 1);
  x[3] = 0, x[17] = -0.0f, x[40] = NAN, x[74] = NAN;
  for (const float least : {-1.0f, 0.0f, 0.7f, 100.0f}) {
    std::vector<int32_t> expected;
    for (int i = 0; i < kCount; ++i)
      if (!(std::fabs(x[i]) <= least)) expected.push_back(i);
    on_every_target([&] { EXPECT_EQ(loud_places(x.data(), kCount, least), expected); });
  }
}

TEST(PlacesFrom, AreThoseThatReachTheirBorderAfterWhatWasThereOnEveryTarget) {
  auto x = normals(kCount, 1);
  auto least = normals(kCount, 2);
  x[5] = least[5], x[6] = NAN, least[70] = INFINITY;
  std::vector<int32_t> expected = {7};
  for (int i = 0; i < kCount; ++i)
    if (x[i] >= least[i]) expected.push_back(i);
  on_every_target([&] {
    std::vector<int32_t> out = {7};
    append_places_from(x.data(), least.data(), kCount, out);
    EXPECT_EQ(out, expected);
  });
}

}  // namespace
}  // namespace cajal
