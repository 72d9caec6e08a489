#include "cajal/kernels/copies.h"

#include <gtest/gtest.h>

#include <cstring>
#include <set>

namespace cajal {
namespace {

TEST(MatrixCopies, GivesEveryCopyInTurnAndAllHoldTheSameNumbers) {
  MatrixCopies copies(Format::q8_0, 5, 64, 1000);
  const auto first = copies.next();
  const auto bytes = static_cast<size_t>(first.rows * first.stride);
  EXPECT_EQ(copies.count(), 3);
  std::set<const void*> places = {first.data};
  for (int64_t i = 1; i < copies.count(); ++i) {
    const auto other = copies.next();
    EXPECT_TRUE(places.insert(other.data).second);
    EXPECT_EQ(std::memcmp(first.data, other.data, bytes), 0);
  }
  EXPECT_EQ(copies.next().data, first.data);
}

TEST(MatrixCopies, MakesOneOfAMatrixThatIsLargerThanAsked) {
  EXPECT_EQ(MatrixCopies(Format::f32, 3, 8, 1).count(), 1);
}

TEST(TreeCopies, AreTreesThatAnswerAlikeWithEveryCopy) {
  TreeCopies copies(Format::f32, 3, 2, 32, 20'000);
  const std::vector<float> x(32, 1.0f);
  std::vector<float> first(32), other(32);
  ThreadPool threads(1);
  tree_feed_forward(copies.next(), x.data(), 1, first.data(), threads);
  tree_feed_forward(copies.next(), x.data(), 1, other.data(), threads);
  EXPECT_EQ(first, other);
}

}  // namespace
}  // namespace cajal
