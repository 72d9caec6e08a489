#pragma once
#include <functional>
#include <optional>
#include <vector>

#include "cajal/core/options.h"
#include "cajal/layers/vision/lenet.h"
#include "cajal/layers/vision/precortical.h"

/// LeNet-5 with something before it that may keep changes of light away from it.
/// Source: dossier precortical.
namespace cajal::vision {

enum class LightFront {
  none,
  learned,         // the precortical module, from a centre and a surround
  learned_random,  // the same from random kernels
  zero_sum,
  fixed,
  plain_conv,     // two depthwise 7 x 7 convolutions with ReLU: the same depth and weights
  standardise,    // each picture less its mean, over its deviation
  instance_norm,  // the same for each channel of a picture
  batch_norm,     // one mean and deviation for all pictures, those of training
  augment,        // nothing before it; training pictures change their brightness and contrast
  learned_late,   // the learned module before a LeNet that was trained without it and stays
};

struct LightNet {
  std::function<torch::Tensor(const torch::Tensor& x)> forward;  // pictures to logits
  std::vector<torch::Tensor> parameters;                         // that learn
  Precortical front{nullptr};                                    // where it is one
  int64_t extra = 0;                                             // weights before the LeNet
  bool augment = false;
};

/// x [pictures, colours, size, size] are the training pictures. `back`: an own LeNet where none is
/// given; learned_late needs a given one. Throws Error without it.
LightNet light_net(LightFront front, const torch::Tensor& x, std::optional<LeNet> back = {});

/// Each picture of x with a contrast of 0.3 to 1.7 about its mean and a brightness of -0.4 to 0.4.
torch::Tensor augmented_light(const torch::Tensor& x);

}  // namespace cajal::vision

CAJAL_ENUM(cajal::vision::LightFront, {cajal::vision::LightFront::none, "none"},
           {cajal::vision::LightFront::learned, "learned"},
           {cajal::vision::LightFront::learned_random, "learned, random start"},
           {cajal::vision::LightFront::zero_sum, "zero-sum"},
           {cajal::vision::LightFront::fixed, "fixed"},
           {cajal::vision::LightFront::plain_conv, "plain-conv"},
           {cajal::vision::LightFront::standardise, "standardise"},
           {cajal::vision::LightFront::instance_norm, "instance-norm"},
           {cajal::vision::LightFront::batch_norm, "batch-norm"},
           {cajal::vision::LightFront::augment, "augment"},
           {cajal::vision::LightFront::learned_late, "learned, before a trained LeNet"})
