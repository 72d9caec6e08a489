#pragma once
#include <vector>

#include "cajal/core/torch.h"

namespace cajal::surgery {

/// An order of neurons in which those that fire on the same tokens stand together, so that whole
/// groups of `group` fall silent: each group begins with the neuron left that fires most and takes,
/// one after another, the neuron whose firing overlaps most with the group's (the mean Jaccard
/// index). `fires` bool [tokens, neurons]; neurons that never fired come last.
std::vector<int32_t> coactivation_order(const torch::Tensor& fires, int64_t group);

/// Share of (token, group) pairs in which at least one neuron of the group fires; `order` as above,
/// or empty for the natural order.
double live_groups(const torch::Tensor& fires, const std::vector<int32_t>& order, int64_t group);

}  // namespace cajal::surgery
