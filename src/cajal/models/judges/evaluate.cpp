#include "cajal/models/judges/evaluate.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>

#include "cajal/core/error.h"

namespace cajal::judges {

std::vector<Trace> evaluate(const Network& network, std::span<const Pair> pairs, const Ask& ask,
                            const EvaluateOptions& options) {
  require(options.workers > 0, "judges: {} workers", options.workers);
  std::vector<Trace> traces(pairs.size());
  std::atomic<size_t> next = 0;
  std::mutex mutex;  // of the two below, and of progress
  int64_t done = 0;
  std::exception_ptr failure;
  const auto work = [&] {
    for (size_t i; (i = next++) < pairs.size();) {
      try {
        auto trace = forward(network, pairs[i], ask);
        if (!options.keep_texts)
          for (auto& review : trace.reviews) review.prompt = {}, review.text = {};
        traces[i] = std::move(trace);
        const std::lock_guard lock(mutex);
        ++done;
        if (options.progress) options.progress(done);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!failure) failure = std::current_exception();
        next = pairs.size();
      }
    }
  };
  const auto threads = std::min<size_t>(static_cast<size_t>(options.workers), pairs.size());
  std::vector<std::thread> workers;
  for (size_t t = 1; t < threads; ++t) workers.emplace_back(work);
  work();
  for (auto& worker : workers) worker.join();
  if (failure) std::rethrow_exception(failure);
  return traces;
}

Quality quality(std::span<const Pair> pairs, std::span<const Trace> traces, int resamples,
                uint64_t seed) {
  require(pairs.size() == traces.size() && !pairs.empty(), "judges: {} pairs and {} traces",
          pairs.size(), traces.size());
  std::vector<int> truth, said;
  Quality out;
  double reviews = 0;
  for (size_t i = 0; i < pairs.size(); ++i) {
    truth.push_back(static_cast<int>(pairs[i].human));
    said.push_back(static_cast<int>(traces[i].verdict));
    out.calls += static_cast<double>(traces[i].calls) / static_cast<double>(pairs.size());
    for (const auto& review : traces[i].reviews) out.unreadable += !review.readable, ++reviews;
  }
  out.unreadable /= std::max(1.0, reviews);
  out.accuracy = math::accuracy(truth, said);
  out.macro_f1 = math::macro_f1(truth, said, kVerdicts);
  out.kappa = math::kappa(truth, said, kVerdicts);
  std::vector<int> some_truth(truth.size()), some_said(said.size());
  out.kappa_interval = math::bootstrap(
      std::ssize(truth),
      [&](std::span<const int64_t> drawn) {
        for (size_t k = 0; k < drawn.size(); ++k) {
          some_truth[k] = truth[static_cast<size_t>(drawn[k])];
          some_said[k] = said[static_cast<size_t>(drawn[k])];
        }
        return math::kappa(some_truth, some_said, kVerdicts);
      },
      resamples, 0.95, seed);
  return out;
}

double flip_rate(std::span<const Trace> traces, std::span<const Trace> exchanged) {
  require(traces.size() == exchanged.size() && !traces.empty(), "judges: {} and {} traces",
          traces.size(), exchanged.size());
  double flips = 0;
  for (size_t i = 0; i < traces.size(); ++i)
    flips += swapped(traces[i].verdict) != exchanged[i].verdict;
  return flips / static_cast<double>(traces.size());
}

}  // namespace cajal::judges
