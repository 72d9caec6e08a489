#include "cajal/core/threads.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <vector>

namespace {

using cajal::ThreadPool;

TEST(Threads, RunEveryPartOnce) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    ASSERT_EQ(pool.size(), threads);
    std::vector<std::atomic<int>> runs(threads);
    for (int job = 0; job < 100; ++job) pool.run([&](int part) { ++runs.at(part); });
    for (const auto& count : runs) EXPECT_EQ(count, 100);
  }
}

TEST(Threads, AreAsManyAsProcessorsUnlessTold) {
  EXPECT_EQ(ThreadPool().size(), cajal::available_processors());
  EXPECT_GE(cajal::available_processors(), 1);
}

TEST(Threads, CutARangeIntoWholeGrains) {
  ThreadPool pool(3);
  for (const int64_t count : {0, 1, 7, 8, 9, 64, 1000}) {
    std::vector<std::atomic<int>> touched(count);
    std::atomic<int> ragged = 0;
    pool.parallel_for(count, 8, [&](int64_t begin, int64_t end) {
      if (begin % 8 != 0 || (end % 8 != 0 && end != count) || begin >= end) ++ragged;
      for (int64_t i = begin; i < end; ++i) ++touched.at(i);
    });
    EXPECT_EQ(ragged, 0) << count;
    for (const auto& times : touched) EXPECT_EQ(times, 1) << count;
  }
}

TEST(Threads, HandAnExceptionToTheCallerAndGoOn) {
  for (const int threads : {1, 3}) {
    ThreadPool pool(threads);
    for (int thrower = 0; thrower < threads; ++thrower) {
      const auto job = [&](int part) {
        if (part == thrower) throw std::runtime_error("part failed");
      };
      EXPECT_THROW(pool.run(job), std::runtime_error);
    }
    std::atomic<int> runs = 0;
    pool.run([&](int) { ++runs; });
    EXPECT_EQ(runs, threads);
  }
}

}  // namespace
