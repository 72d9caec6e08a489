#pragma once
#include <memory>

#include "cajal/engine/feed_forward.h"
#include "cajal/engine/network.h"

namespace cajal::engine {

/// The `count` experts of `network` (one group, equal runs of its neurons) that do most for a
/// token: Σ of positive activations, of |activation| where gated. Reads every key. The network is
/// kept.
ExpertChoice oracle_experts(const std::shared_ptr<const StoredFeedForward>& network,
                            int64_t experts, int64_t count);

/// A feed-forward network of one group whose neurons are cut into `experts` equal runs, of which
/// each token uses the `count` that `choice` gives: single tokens by a bank whose other rows are
/// not read, many by one product an expert. Throws Error when experts do not divide the neurons.
/// Source: dossier moefication.
FeedForward run_experts(const std::shared_ptr<const StoredFeedForward>& network,
                        const ExpertChoice& choice, int64_t experts, int64_t count);

}  // namespace cajal::engine
