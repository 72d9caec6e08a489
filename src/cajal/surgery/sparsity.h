#pragma once
#include <span>
#include <vector>

#include "cajal/models/lm/transformer.h"

namespace cajal::surgery {

/// Rules that leave out small numbers while the model runs, so that the rows or columns they would
/// meet need not be read. No training.
enum class SparseRule {
  cats,  // a gate counts only where |law(gate)| is at least a threshold (Lee 2024)
  teal,  // every matrix reads only the entries of its input that are large enough (Liu 2024)
};

/// A hook point and the size below which its entries are taken for 0.
struct Threshold {
  std::string point;
  double size = 0;
};

/// Thresholds that leave out `share` of the entries at each point of the rule, from the quantiles
/// over the first `tokens` of a calibration text. Throws Error for cats on a model without gates.
/// Sources: arXiv 2404.08763 (CATS), 2408.14690 (TEAL, with one sparsity for all matrices).
std::vector<Threshold> find_thresholds(lm::Transformer& model, SparseRule rule, double share,
                                       std::span<const int32_t> ids, int64_t tokens = 4096);

/// How many of the entries that passed through the attached rules were left out.
struct SparseCount {
  int64_t entries = 0, zeros = 0;
  double share() const {
    return entries > 0 ? static_cast<double>(zeros) / static_cast<double>(entries) : 0;
  }
};

/// Applies the thresholds in every pass that uses these hooks; `count` must outlive them.
void attach(lm::Hooks& hooks, const lm::Transformer& model, SparseRule rule,
            const std::vector<Threshold>& thresholds, SparseCount& count);

}  // namespace cajal::surgery
