#pragma once
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "cajal/core/torch.h"
#include "cajal/models/lm/transformer.h"

/// Changing what passes a hook point and seeing what comes of it, for every family. Points go by
/// their TransformerLens names, as in docs/models.md.
namespace cajal::atlas {

/// Values of hook points by full name.
using Recording = std::map<std::string, torch::Tensor, std::less<>>;

struct Run {
  torch::Tensor output;  // what Transformer::forward returned
  Recording values;
};

/// One forward pass that keeps the values of the points that `hooks` name (full or short names, or
/// patterns with *). Hooks of `pass` run first, so that the values are those after a change.
/// Throws Error when a name fits no point of this model.
Run record(lm::Transformer& model, const torch::Tensor& input,
           const std::vector<std::string>& hooks, lm::Pass pass = {});

/// A part of one hook point, or of all that a pattern names: every listed position, head and unit;
/// an empty list means all of them. Negative numbers count from the end.
/// Axes: residuals and neurons [batch, position, unit]; q, k, v, z, result
/// [batch, position, head, unit]; attention scores and patterns [batch, head, position, unit =
/// key]; what has no position (pooler) [batch, unit].
struct Site {
  std::string hook;
  std::vector<int64_t> positions = {}, heads = {}, units = {};
};

/// The axis of a point's value that a site's lists choose from; -1 where the point has none.
struct SiteAxes {
  int position, head, unit;
};
SiteAxes site_axes(std::string_view hook, int64_t dimensions);

/// bool, broadcasts to `sizes`: true on the site. Throws Error naming the point for an index out of
/// range, and for heads where the point has none.
torch::Tensor site_mask(const Site& site, std::string_view hook, torch::IntArrayRef sizes);

/// Activation patching: passes with `hooks` get the values of `source` on the site and keep their
/// own elsewhere. A source of one batch row serves every row. Gradients flow through both.
/// Returns a handle for Hooks::remove. The pass throws Error when `source` lacks a point that the
/// site names, or holds it in another shape.
int patch(lm::Hooks& hooks, const Site& site, Recording source);

/// The same for one point with a mask of your own: bool, broadcasting to the point's shape, e.g.
/// [batch, 1, neurons] with another neuron in each row.
int patch(lm::Hooks& hooks, const std::string& hook, torch::Tensor mask, torch::Tensor value);

enum class Ablate {
  zero,
  mean,     // of the reference, over its batch
  resample  // the value of another example of the reference, drawn for every row
};

/// Means over the batch, [1, ...]; `over_positions`: over the positions too, so that texts of any
/// length may be ablated (patterns and scores are left out then).
Recording means(const Recording& reference, bool over_positions = false);

/// Ablation of a site. `reference` (for mean and resample) holds values of the same points over
/// reference examples, as `record` gives them; `seed` draws the examples of resample.
int ablate(lm::Hooks& hooks, const Site& site, Ablate how, const Recording& reference = {},
           uint64_t seed = 0);

/// What a change does when norms keep the scale that they had without it, and what it does through
/// them. Numbers of the metric, [batch].
struct NormSplit {
  torch::Tensor total, direct, through_norms;  // total = direct + through_norms
};

/// The effect of `change` on `metric` (see attribution.h), split by freezing the scales of the
/// norms that `norms` names, e.g. "ln_final" or "*": layer and RMS norms divide by it.
NormSplit frozen_norm_split(lm::Transformer& model, const torch::Tensor& input,
                            const lm::Hooks& change,
                            const std::function<torch::Tensor(const torch::Tensor&)>& metric,
                            const std::string& norms = "ln_final", lm::Pass pass = {});

}  // namespace cajal::atlas

CAJAL_ENUM(cajal::atlas::Ablate, {cajal::atlas::Ablate::zero, "zero"},
           {cajal::atlas::Ablate::mean, "mean"}, {cajal::atlas::Ablate::resample, "resample"})
