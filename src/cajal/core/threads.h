#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace cajal {

/// Worker threads that watch for the next job for a moment and then sleep: jobs that follow each
/// other closely, as in decoding, start within a microsecond or two. A job is cut into `size()`
/// fixed parts, so which thread computes what depends only on the thread count.
class ThreadPool {
 public:
  /// `threads` = 0: one for each processor this process may use.
  explicit ThreadPool(int threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return static_cast<int>(workers_.size()) + 1; }

  /// Runs part(0) ... part(size() - 1), one on each thread, and waits. The first exception is
  /// thrown again here. Not reentrant.
  void run(const std::function<void(int part)>& part);

  /// Cuts [0, count) into size() ranges whose borders are multiples of `grain` and runs
  /// body(begin, end) on those that are not empty.
  void parallel_for(int64_t count, int64_t grain,
                    const std::function<void(int64_t begin, int64_t end)>& body);

 private:
  void work(int part);
  void run_part(int part);

  std::mutex mutex_;
  std::condition_variable start_, done_;
  const std::function<void(int)>* job_ = nullptr;
  std::atomic<uint64_t> generation_ = 0;
  std::atomic<int> pending_ = 0;
  std::atomic<bool> stop_ = false;
  std::exception_ptr failure_;
  std::vector<std::thread> workers_;
};

/// Processors that this process may use.
int available_processors();

}  // namespace cajal
