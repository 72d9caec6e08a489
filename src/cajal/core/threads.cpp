#include "cajal/core/threads.h"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <utility>

namespace cajal {
namespace {

/// Watches until `ready`, for some 50 microseconds: waking a thread that sleeps takes about as
/// long.
template <class Ready>
bool watch(const Ready& ready) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(50);
  do {
    for (int i = 0; i < 16; ++i) {
      if (ready()) return true;
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    }
  } while (std::chrono::steady_clock::now() < end);
  return ready();
}

// generation_ counts jobs in units of kJob and, below, workers that sleep; pending_ has kAsleep
// added while run() sleeps. So the mutex, which a thread may have to sleep for, is only touched
// when somebody must be woken.
constexpr uint64_t kJob = 1 << 16;
constexpr int kAsleep = 1 << 30;

}  // namespace

int available_processors() {
  cpu_set_t set;
  if (::sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

ThreadPool::ThreadPool(int threads) {
  if (threads <= 0) threads = available_processors();
  for (int part = 1; part < threads; ++part) workers_.emplace_back([this, part] { work(part); });
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  start_.notify_all();
  for (auto& worker : workers_) worker.join();
}

void ThreadPool::run(const std::function<void(int)>& part) {
  if (workers_.empty()) return part(0);
  job_ = &part;
  pending_ = static_cast<int>(workers_.size());
  failure_ = nullptr;
  if (generation_.fetch_add(kJob) % kJob != 0) {
    std::lock_guard lock(mutex_);  // so that none is between looking and sleeping
    start_.notify_all();
  }
  run_part(0);
  const auto finished = [this] { return pending_ % kAsleep == 0; };
  if (!watch(finished)) {
    std::unique_lock lock(mutex_);
    pending_ += kAsleep;
    done_.wait(lock, finished);
  }
  job_ = nullptr;
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

void ThreadPool::parallel_for(int64_t count, int64_t grain,
                              const std::function<void(int64_t, int64_t)>& body) {
  const int64_t blocks = (count + grain - 1) / grain, parts = size();
  if (blocks <= 1 || parts == 1) {
    if (count > 0) body(0, count);
    return;
  }
  run([&](int part) {
    const int64_t begin = blocks * part / parts * grain;
    const int64_t end = std::min(count, blocks * (part + 1) / parts * grain);
    if (begin < end) body(begin, end);
  });
}

void ThreadPool::work(int part) {
  uint64_t seen = 0;
  const auto called = [&] { return stop_ || generation_ / kJob != seen; };
  for (;;) {
    if (!watch(called)) {
      std::unique_lock lock(mutex_);
      ++generation_;
      start_.wait(lock, called);
      --generation_;
    }
    if (stop_) return;
    seen = generation_ / kJob;
    run_part(part);
    if (--pending_ == kAsleep) {
      std::lock_guard lock(mutex_);
      done_.notify_one();
    }
  }
}

void ThreadPool::run_part(int part) {
  try {
    (*job_)(part);
  } catch (...) {
    std::lock_guard lock(mutex_);
    if (!failure_) failure_ = std::current_exception();
  }
}

}  // namespace cajal
