#pragma once
#include <vector>

#include "cajal/layers/ffn/balancing.h"
#include "cajal/layers/ffn/fast_feed_forward.h"
#include "cajal/layers/ffn/sparse_memory.h"
#include "cajal/train/classifier.h"

namespace cajal::train {

/// Part of a tree's training: CE + h · node entropy + alpha · load balance, where h goes linearly
/// from `entropy_from` to `entropy_to` over the first half of the epochs.
struct TreePhase {
  int64_t epochs = 40;
  double entropy_from = 0.1, entropy_to = 3;
  double balance = 0;
  double keep_from = 0.5;          // share of the epochs after which the best state may be kept
  TreeForm form = TreeForm::soft;  // of the answer that the CE judges
};

/// Accuracies of the hard inference form unless they say soft.
struct TreeScore {
  double train = 0, valid = 0, test = 0, test_soft = 0;
  double entropy = 0;  // mean of a node over the test set, nats
  balancing::Use use;  // of the leaves by the training set
  double blend = 1;    // s of the master leaf
};

/// Trains through the phases, each from the best state of the one before, and scores it.
/// `options` gives batch, rates and the raised rate.
TreeScore fit_tree(FastFeedForward& layer, const ClassifierData& data,
                   const std::vector<TreePhase>& phases, ClassifierOptions options = {});

/// The same for experts, with the loss that their selector asks for.
TreeScore fit_experts(SparseMemory& layer, const ClassifierData& data,
                      const ClassifierOptions& options = {});

}  // namespace cajal::train
