#pragma once
#include "cajal/data/assoc_recall.h"
#include "cajal/train/tuning.h"

// Tuning on sequences that ask for values of keys seen before (data/assoc_recall.h).
namespace cajal::train {

/// `batch` new sequences a step; targets are -100 where nothing is asked.
TuningBatch recall_batches(const data::AssocRecallOptions& options, int64_t batch, uint64_t seed);

/// Share of what `count` sequences ask for that is the model's likeliest next id; they are others
/// than those of recall_batches.
double recalled(lm::Adapted& model, const data::AssocRecallOptions& options, int64_t count);

}  // namespace cajal::train
