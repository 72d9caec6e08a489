#pragma once
#include <string>
#include <vector>

#include "cajal/surgery/bricks.h"
#include "cajal/train/tuning.h"

// Bricks that learn while all else is frozen.
namespace cajal::surgery {

/// Low-rank bricks at every matrix of attention and FFN, PREFIX/LAYER/MODULE, tuned on the batches.
struct LowRankTraining {
  int64_t rank = 8;
  double alpha = 8;
  train::TuningOptions tuning = {};
  uint64_t seed = 0;
};
std::vector<Brick> train_low_rank(const std::string& prefix, const lm::Transformer& model,
                                  const train::TuningBatch& batch, const LowRankTraining& options);

/// The low-rank bricks that an adapted model's corrections are. Throws Error for adapters that
/// change the embedding.
std::vector<Brick> bricks_of(const std::string& prefix, const lm::Adapted& adapted,
                             const std::string& base);

/// Goes on training bricks of appended neurons (key_value), which stay the only thing that changes.
/// Throws Error for other bricks and when the loss is no number.
std::vector<Brick> train_neurons(std::vector<Brick> bricks, const lm::Transformer& model,
                                 const train::TuningBatch& batch,
                                 const train::TuningOptions& options);

/// The model with all of its weights tuned on the batches: the rival of both.
lm::Transformer train_all(const lm::Transformer& model, const train::TuningBatch& batch,
                          const train::TuningOptions& options);

}  // namespace cajal::surgery
