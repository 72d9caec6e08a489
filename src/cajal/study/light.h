#pragma once
#include <vector>

#include "cajal/core/torch.h"
#include "cajal/data/corruption.h"

namespace cajal::study {

/// Pictures [count, channels, height, width] under a change of light.
torch::Tensor changed_light(const torch::Tensor& x, const data::LightChange& change, uint64_t seed);

/// Pictures under every change of each grid of the dossier, made once for all networks.
struct LightGrids {
  std::vector<torch::Tensor> brightness, contrast;
  std::vector<torch::Tensor> clipped;  // both of these, clipped to [0, 1]
  std::vector<torch::Tensor> gamma, gradient;
  torch::Tensor noisy;  // contrast 0.2 and noise of deviation 0.02
};
LightGrids light_grids(const torch::Tensor& x);

}  // namespace cajal::study
