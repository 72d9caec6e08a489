#pragma once
#include "cajal/models/lm/transformer.h"

namespace cajal::lm {

/// The training loss of a language model, equal to Transformer::forward followed by
/// ops::cross_entropy. Configs that most models have (`direct`) go through the fused steps of
/// layers/ops.h in the type of the weights, which is what makes training fast on a GPU.
class TrainingLoss {
 public:
  explicit TrainingLoss(Transformer model);

  /// ids and targets i64 [batch, tokens] -> the mean over targets that are not -100, in nats; where
  /// `penalty` [] is defined (direct way only), plus penalty x the mean |activation| of the FFN
  /// neurons, summed over layers.
  torch::Tensor operator()(const torch::Tensor& ids, const torch::Tensor& targets,
                           const torch::Tensor& penalty = {});

  /// Whether the fused way is taken. It never waits for the device and does the same work for every
  /// batch of one shape, so that it can be captured in a CUDA graph.
  bool direct() const { return direct_; }

 private:
  torch::Tensor logits(const torch::Tensor& ids, torch::Tensor* activity);  // [positions, tokens]
  torch::Tensor feed_forward(const NeuronGroup& group, const torch::Tensor& x,
                             torch::Tensor* activity) const;

  Transformer model_;
  bool direct_;
  torch::Tensor cosine_, sine_;  // RoPE [context, rotated pairs]
};

}  // namespace cajal::lm
