#include "cajal/study/beside_dense.h"

#include <gtest/gtest.h>

namespace cajal::study {
namespace {

TEST(BesideDense, CallsTheLayerWithItsInputsAndGivesItsTime) {
  MatrixCopies key(Format::f32, 8, 16, 1024), value(Format::f32, 8, 16, 1024);
  ThreadPool threads(1);
  int calls = 0;
  const auto times = beside_dense(key, value, 2, 3, threads, [&](const float* x, float* y) {
    EXPECT_NE(x, y);
    ++calls;
  });
  EXPECT_EQ(calls, 3 + 2);  // with the rounds that warm up
  EXPECT_GT(times.layer, 0);
  EXPECT_GT(times.dense, 0);
}

TEST(BesideExperts, GivesATimeOfEachTreeAndOfTheExperts) {
  std::vector<TreeCopies> trees;
  for (const int64_t depth : {1, 2}) trees.emplace_back(Format::f32, depth, 2, 16, 1024);
  ThreadPool threads(1);
  EXPECT_EQ(beside_experts(trees, 2, threads).size(), 3u);
}

}  // namespace
}  // namespace cajal::study
