#pragma once
#include <functional>
#include <span>
#include <vector>

#include "cajal/math/agreement.h"
#include "cajal/models/judges/network.h"

namespace cajal::judges {

struct EvaluateOptions {
  int workers = 16;        // pairs at once
  bool keep_texts = true;  // prompts and reviews in the traces; scores always are
  std::function<void(int64_t done)> progress = {};
};

/// Judges every pair; traces come in the order of the pairs whatever order replies come in. The
/// first exception stops all workers and is thrown again here.
std::vector<Trace> evaluate(const Network& network, std::span<const Pair> pairs, const Ask& ask,
                            const EvaluateOptions& options = {});

/// How verdicts agree with people.
struct Quality {
  double accuracy = 0, macro_f1 = 0, kappa = 0;
  math::Interval kappa_interval;  // bootstrap over pairs, 95 %
  double calls = 0;               // a pair
  double unreadable = 0;          // share of reviews
};
Quality quality(std::span<const Pair> pairs, std::span<const Trace> traces, int resamples = 1000,
                uint64_t seed = 0);

/// Share of pairs whose verdict is not exchanged where the answers are: `exchanged` judged the
/// same pairs with their answers in the other order.
double flip_rate(std::span<const Trace> traces, std::span<const Trace> exchanged);

}  // namespace cajal::judges
