#pragma once
#include <functional>
#include <vector>

#include "cajal/core/torch.h"
#include "cajal/data/item_canvas.h"

namespace cajal::surgery {

/// Pictures in [-1, 1] with captions, as tensors.
struct Scenes {
  torch::Tensor pictures;  // [n, 1, size, size]
  torch::Tensor words;     // i64 [n, 12]
};
Scenes paint_scenes(const std::vector<std::vector<data::PlacedItem>>& scenes, int64_t size,
                    Random& random);

/// A small network, independent of any generator, that says what captioned pictures show: which
/// words of their captions fit.
struct CanvasJudge {
  std::function<torch::Tensor(const torch::Tensor& pictures)> odds;      // log-odds [n, words]
  std::function<torch::Tensor(const torch::Tensor& pictures)> features;  // [n, 64]

  /// Share of pictures in which every one of `words` is there.
  double share_with(const torch::Tensor& pictures, const std::vector<int64_t>& words) const;
  /// Cosine of the mean features of pictures with those of real ones.
  double likeness(const torch::Tensor& pictures, const torch::Tensor& real) const;
};

/// Trains on scenes drawn anew for each step, with noise added; `scene` gives one.
CanvasJudge train_judge(const std::function<std::vector<data::PlacedItem>(Random&)>& scene,
                        int64_t size, int64_t steps, uint64_t seed);

}  // namespace cajal::surgery
