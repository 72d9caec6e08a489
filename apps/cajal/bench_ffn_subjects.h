#pragma once
#include <functional>
#include <string>
#include <vector>

#include "cajal/core/options.h"
#include "cajal/core/threads.h"
#include "cajal/kernels/formats/format.h"

/// What `cajal bench ffn` times.
namespace cajal::bench_ffn {

struct Shape {
  int64_t width = 0, neurons = 0;
  bool gated = false;
  int64_t batch = 1;
};

enum class SelectorKind { all, fixed, silent, cats, teal, low_rank, mlp, router };

/// One candidate: `run` is one pass through the next of its layers.
struct Subject {
  std::string what, format;
  double share = 1, ideal = 1;  // of the neurons; of the dense time if only bytes counted
  std::function<void(ThreadPool&)> run;
  std::function<double()> bytes;  // that a pass reads
};

/// What share of the dense form's bytes a selector leaves to be read at an active share.
double ideal_time(SelectorKind selector, bool gated, double share);

/// The dense form, then the selector keeping each share below 1: other neurons in every layer and,
/// where it chooses fixed groups, in every pass. Layers take `memory` bytes or more. `rank`: of
/// predictors.
std::vector<Subject> engine_subjects(const Shape& shape, Format format, SelectorKind kind,
                                     const std::vector<double>& shares, size_t memory,
                                     int64_t rank);

/// libtorch on as many threads: dense in bf16 and f32, then f32 rows picked by index_select at each
/// share below 1.
std::vector<Subject> torch_subjects(const Shape& shape, const std::vector<double>& shares,
                                    size_t memory, int threads);

}  // namespace cajal::bench_ffn

CAJAL_ENUM(cajal::bench_ffn::SelectorKind, {cajal::bench_ffn::SelectorKind::all, "all"},
           {cajal::bench_ffn::SelectorKind::fixed, "fixed"},
           {cajal::bench_ffn::SelectorKind::silent, "silent"},
           {cajal::bench_ffn::SelectorKind::cats, "cats"},
           {cajal::bench_ffn::SelectorKind::teal, "teal"},
           {cajal::bench_ffn::SelectorKind::low_rank, "low-rank"},
           {cajal::bench_ffn::SelectorKind::mlp, "mlp"},
           {cajal::bench_ffn::SelectorKind::router, "router"})
