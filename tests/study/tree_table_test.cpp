#include "cajal/study/tree_table.h"

#include <gtest/gtest.h>

namespace cajal::study {
namespace {

TEST(TreeTable, TrainsANetworkOnceForAllRowsThatShowIt) {
  Lab lab("test", {.scale = Scale::smoke});
  TreeTable table(lab, train::tree_classes({.count = 64, .features = 4, .classes = 3}));
  const auto first = table.dense("one", 4, 1), again = table.dense("other", 4, 9);
  EXPECT_EQ(first.test.values, again.test.values);
  EXPECT_NE(first.train.values, table.dense("wider", 16, 9).train.values);
}

TEST(TreeTable, TheGapIsBetweenTheSoftAndTheHardForm) {
  TreeFigures figures;
  figures.test = 0.5, figures.soft = 0.25;
  EXPECT_DOUBLE_EQ(figures.gap().mean(), 25);
}

}  // namespace
}  // namespace cajal::study
