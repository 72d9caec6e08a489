#pragma once
#include <vector>

#include "cajal/core/options.h"
#include "cajal/core/torch_tensors.h"
#include "cajal/surgery/bricks.h"

// Several bricks as one.
namespace cajal::surgery {

enum class MergeRule {
  average,     // Σ λ_k Δ_k / Σ λ_k
  arithmetic,  // Σ λ_k Δ_k: task arithmetic (Ilharco 2022, arXiv 2212.04089)
  ties,  // each Δ's `density` largest entries; per entry the sign with more mass; the mean of
         // those that agree, times λ (Yadav 2023, arXiv 2306.01708)
  dare   // each entry dropped with probability 1 - `density`, the rest divided by `density`,
         // then Σ λ_k Δ_k (Yu 2023, arXiv 2311.03099)
};

struct MergeOptions {
  MergeRule rule = MergeRule::ties;
  std::vector<double> weights = {};  // λ, one a brick; empty = 1 each
  double density = 0.2;  // ties: kept entries of each tensor; dare: kept share, usually 0.1
  uint64_t seed = 0;     // dare
};
CAJAL_OPTIONS(MergeOptions, rule, weights, density, seed)

/// One change from several of the same model: tensors by name, missing ones being zero.
/// Throws Error for no deltas, other shapes under one name, and options that do not fit.
NamedTensors merge_deltas(const std::vector<NamedTensors>& deltas, const MergeOptions& options);

/// A task vector: what `tuned` has more than `base`, by our names. Throws Error unless both have
/// the same tensors.
NamedTensors delta_of(lm::Transformer& base, lm::Transformer& tuned);

/// One low-rank brick that does what several at the same place do together, by laying their ranks
/// side by side; exact. `weights` empty = 1 each. Throws Error for bricks of different places.
Brick concatenated(const std::string& id, const std::vector<Brick>& bricks,
                   const std::vector<double>& weights);

/// The change of weights that low-rank bricks make, as a task vector's tensors.
NamedTensors dense_delta(const lm::Transformer& model, const std::vector<Brick>& bricks);

}  // namespace cajal::surgery

CAJAL_ENUM(cajal::surgery::MergeRule, {cajal::surgery::MergeRule::average, "average"},
           {cajal::surgery::MergeRule::arithmetic, "arithmetic"},
           {cajal::surgery::MergeRule::ties, "ties"}, {cajal::surgery::MergeRule::dare, "dare"})
