#pragma once
#include <functional>

#include "cajal/atlas/patching.h"

namespace cajal::atlas {

/// A number for each example: logits [batch, tokens, vocabulary] -> [batch], differentiable.
using Metric = std::function<torch::Tensor(const torch::Tensor& logits)>;

/// Metrics at one position (-1: the last); ids i64 [batch].
Metric logit_of(torch::Tensor ids, int64_t position = -1);
Metric logit_difference(torch::Tensor ids, torch::Tensor others, int64_t position = -1);
Metric probability_of(torch::Tensor ids, int64_t position = -1);

/// ((P*(r') - P(r'))/P(r') + (P(r) - P*(r))/P*(r)) / 2: how far an intervention moves an answer r
/// towards r'. P is of `before` (the logits without intervention), P* of the logits measured.
/// Source: dossier arithmetic-heuristics, Build 2; Stolfo et al. 2023, arXiv 2305.15054.
Metric indirect_effect(const torch::Tensor& before, torch::Tensor ids, torch::Tensor source_ids,
                       int64_t position = -1);

struct AttributionOptions {
  int64_t steps = 1;  // 1: the gradient at `input`; more: the mean gradient at the midpoints of so
                      // many steps from its activation to the source's, one point at a time
};

/// Attribution patching: for every element of every named point (source - own) x d metric / d own,
/// a first-order estimate of what patching that element from the source run would change. Two
/// forward passes and one backward for all points together (one of each a point and step where
/// steps > 1). Scores have the points' shapes. `source` and `input` must be of one shape.
/// Source: dossier arithmetic-heuristics, Build 4; Nanda 2023.
Recording attribution_patching(lm::Transformer& model, const torch::Tensor& input,
                               const torch::Tensor& source, const std::vector<std::string>& hooks,
                               const Metric& metric, const AttributionOptions& options = {},
                               lm::Pass pass = {});
/// The same against stored values, e.g. `means` of a reference: [batch or 1, ...].
Recording attribution_patching(lm::Transformer& model, const torch::Tensor& input,
                               const Recording& source, const std::vector<std::string>& hooks,
                               const Metric& metric, const AttributionOptions& options = {},
                               lm::Pass pass = {});

/// Integrated gradients of f along the straight path from `baseline` to x by the midpoint rule:
/// (x - baseline) x mean gradient, in x's shape. f maps x's shape to anything; its sum is what is
/// attributed. Source: Sundararajan et al. 2017, arXiv 1703.01365.
torch::Tensor integrated_gradients(const std::function<torch::Tensor(const torch::Tensor&)>& f,
                                   const torch::Tensor& x, const torch::Tensor& baseline,
                                   int64_t steps);

/// Activation patching of single units of one point, exactly: metric of a pass in which unit u
/// (at `position`, or everywhere for kEverywhere) has the source's value, for each unit of `units`:
/// [units, batch]. Units share forward passes of up to `rows` examples.
inline constexpr int64_t kEverywhere = INT64_MIN;
torch::Tensor patch_each(lm::Transformer& model, const torch::Tensor& input,
                         const torch::Tensor& source_value, const std::string& hook,
                         const std::vector<int64_t>& units, int64_t position,
                         const std::function<Metric(int64_t copies)>& metric, int64_t rows = 512);

}  // namespace cajal::atlas
