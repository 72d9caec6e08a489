#pragma once
#include "cajal/models/diffusion/unet.h"

namespace cajal::diffusion {

enum class Prediction {
  noise,   // the network says e
  picture  // it says x_0: steadier where few steps and a small network must do
};

struct ScheduleOptions {
  int64_t steps = 200;
  double offset = 0.008;  // of the cosine
  double largest_beta = 0.999;
  Prediction predicts = Prediction::noise;
};

/// Cosine noise schedule: x_t = √ᾱ_t x_0 + √(1 - ᾱ_t) e, t = 0 ... steps - 1.
/// Source: Nichol, Dhariwal 2021, arXiv 2102.09672.
struct Schedule {
  explicit Schedule(const ScheduleOptions& options = {});
  /// Pictures x [batch, ...] with noise of steps t i64 [batch].
  torch::Tensor noised(const torch::Tensor& x, const torch::Tensor& t,
                       const torch::Tensor& noise) const;

  /// What the network must say of them.
  const torch::Tensor& target(const torch::Tensor& x, const torch::Tensor& noise) const {
    return options.predicts == Prediction::noise ? noise : x;
  }

  ScheduleOptions options;
  torch::Tensor kept;  // ᾱ, f32 [steps]
};

enum class Sampler {
  ddim,  // deterministic, Song et al. 2021, arXiv 2010.02502
  ddpm   // ancestral, Ho et al. 2020, arXiv 2006.11239
};

struct SampleOptions {
  Sampler sampler = Sampler::ddim;
  int64_t steps = 25;   // of the schedule's; ddpm takes all
  double guidance = 2;  // classifier-free: e_0 + guidance (e - e_0); 1 = none
};

/// Pictures in [-1, 1] for captions i64 [batch, words], from `noise` [batch, colours, size, size];
/// an all-pad caption stands for "no caption". No gradients.
torch::Tensor sample(TextToImage& model, const Schedule& schedule, const torch::Tensor& words,
                     const torch::Tensor& noise, const SampleOptions& options = {});

}  // namespace cajal::diffusion

CAJAL_ENUM(cajal::diffusion::Prediction, {cajal::diffusion::Prediction::noise, "noise"},
           {cajal::diffusion::Prediction::picture, "picture"})

namespace cajal::diffusion {
CAJAL_OPTIONS(ScheduleOptions, steps, offset, largest_beta, predicts)
}  // namespace cajal::diffusion
