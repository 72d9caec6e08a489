#pragma once
#include <functional>

#include "cajal/layers/pade/conv.h"
#include "cajal/layers/vision/sub_pixel.h"

namespace cajal {

/// What the residual blocks of a super-resolution network are made of; each block is two of them
/// with the identity around.
enum class SuperResolutionNeuron {
  relu,        // convolution, ReLU, convolution (EDSR)
  pau,         // convolution, PAU a channel, convolution
  pade_a,      // Paon-A of the given degrees
  pade_s,      // Paon-S of the given degrees
  generative,  // Self-ONN of the given order
  super_neuron,
  quadratic,
};

struct SuperResolutionOptions {
  SuperResolutionNeuron neuron = SuperResolutionNeuron::pade_s;
  int64_t colours = 1;
  int64_t channels = 16;
  int64_t blocks = 4;
  int64_t scale = 2;
  int64_t numerator = 1, denominator = 1;  // of Padé neurons
  int64_t order = 3;                       // of generative and super neurons
  bool picture_skip = false;               // add the picture enlarged by bicubic interpolation
};

/// PadeNet and its rivals: a 3 x 3 convolution, residual blocks, the sum with what went into them,
/// a sub-pixel head. No normalisation. Shapes: x [batch, colours, height, width], values about
/// [-0.5, 0.5] -> y [batch, colours, scale height, scale width]. Source: Keleş and Tekalp 2024,
/// arXiv 2403.11791; Lim et al. 2017, arXiv 1707.02921; dossier paon.
class SuperResolutionImpl : public torch::nn::Module {
 public:
  explicit SuperResolutionImpl(const SuperResolutionOptions& options);
  torch::Tensor forward(const torch::Tensor& x);

  /// The smallest divisor of all Padé neurons in this pass, 1 where there are none.
  double smallest_divisor(const torch::Tensor& x);
  /// Multiplications and additions for one pixel of x.
  double work_per_pixel() const;

  const SuperResolutionOptions options;

 private:
  torch::nn::Conv2d head_{nullptr};
  std::vector<std::function<torch::Tensor(const torch::Tensor&)>> neurons_;  // two a block
  std::vector<PadeConv2d> pades_;                                            // those that divide
  SubPixelHead tail_{nullptr};
};
TORCH_MODULE(SuperResolution);

}  // namespace cajal

CAJAL_ENUM(cajal::SuperResolutionNeuron, {cajal::SuperResolutionNeuron::relu, "relu"},
           {cajal::SuperResolutionNeuron::pau, "pau"},
           {cajal::SuperResolutionNeuron::pade_a, "pade_a"},
           {cajal::SuperResolutionNeuron::pade_s, "pade_s"},
           {cajal::SuperResolutionNeuron::generative, "generative"},
           {cajal::SuperResolutionNeuron::super_neuron, "super"},
           {cajal::SuperResolutionNeuron::quadratic, "quadratic"})

namespace cajal {
CAJAL_OPTIONS(SuperResolutionOptions, neuron, colours, channels, blocks, scale, numerator,
              denominator, order, picture_skip)
}  // namespace cajal
