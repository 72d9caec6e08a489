#include "cajal/core/timing.h"

#include "core/scratch.h"

namespace {

TEST(Timing, MedianIsTheMiddleValue) {
  EXPECT_EQ(cajal::median({3, 1, 2}), 2);
  EXPECT_EQ(cajal::median({4, 1, 2, 3}), 2.5);
  EXPECT_EQ(error_of([] { cajal::median({}); }), "median of no values");
}

TEST(Timing, RunsCandidatesInTurn) {
  std::string order;
  const auto times = cajal::time_interleaved({[&] { order += 'a'; }, [&] { order += 'b'; }}, 2, 1);
  EXPECT_EQ(order, "ababab");
  ASSERT_EQ(times.seconds.size(), 2u);
  EXPECT_EQ(times.seconds[0].size(), 2u);
}

TEST(Timing, RatioComparesWithinARound) {
  const cajal::InterleavedTimes times{{{2, 20, 200}, {1, 10, 50}}};
  EXPECT_EQ(times.ratio(0, 1), 2);
  EXPECT_EQ(times.median_seconds(1), 10);
}

TEST(Timing, PeakMemoryCountsWhatWasTouched) {
  const auto before = cajal::peak_memory_bytes();
  const std::vector<char> block(size_t{256} << 20, 1);
  EXPECT_GE(cajal::peak_memory_bytes() + block.back(), before);
  EXPECT_GE(cajal::peak_memory_bytes(), int64_t{256} << 20);
}

}  // namespace
