#pragma once
#include "cajal/core/options.h"
#include "cajal/core/torch.h"

namespace cajal {

enum class ShiftKind {
  free,       // a learned shift a channel, within [-range, range]
  predicted,  // from the channels' averages through a small network; starts without shift
};
enum class ShiftAverage {
  image,    // what an image's channels average to: it does not depend on its batch mates
  batch,    // over the batch too, as the official code has it
  running,  // over the batch while training, its running mean in evaluation
};
enum class SamplePadding { zeros, border, reflection };

struct ShiftOptions {
  int64_t channels = 0;
  ShiftKind kind = ShiftKind::free;
  double range = 1;    // pixels; free shifts start uniform in it and are clamped to it
  bool learn = true;   // false: free shifts are a buffer
  bool round = false;  // to whole pixels (their gradient is then 0)
  SamplePadding padding = SamplePadding::border;
  ShiftAverage average = ShiftAverage::image;
};

/// Shifts each channel by its own sub-pixel offset: y(i, j) = x(i + dy, j + dx), sampled linearly.
/// Shapes: x [batch, channels, height, width] -> y alike; shift [channels, 2] = (dx, dy) in pixels,
/// or weight [2 channels, channels], bias and slope [2 channels] of the predictor
/// PReLU(weight mean(x) + bias), outputs 2c and 2c + 1 being channel c's dx and dy.
/// Source: Keleş and Tekalp 2024, arXiv 2403.11791 (super neurons' shifts); dossier paon.
class ShiftImpl : public torch::nn::Module {
 public:
  explicit ShiftImpl(const ShiftOptions& options);
  torch::Tensor forward(const torch::Tensor& x);

  const ShiftOptions options;
  torch::Tensor shift;                // free
  torch::Tensor weight, bias, slope;  // predicted
  torch::Tensor running_mean;         // [channels], ShiftAverage::running

 private:
  torch::Tensor offsets(const torch::Tensor& x);  // [channels, 2] or [batch, channels, 2]
};
TORCH_MODULE(Shift);

}  // namespace cajal

CAJAL_ENUM(cajal::ShiftKind, {cajal::ShiftKind::free, "free"},
           {cajal::ShiftKind::predicted, "predicted"})
CAJAL_ENUM(cajal::ShiftAverage, {cajal::ShiftAverage::image, "image"},
           {cajal::ShiftAverage::batch, "batch"}, {cajal::ShiftAverage::running, "running"})
CAJAL_ENUM(cajal::SamplePadding, {cajal::SamplePadding::zeros, "zeros"},
           {cajal::SamplePadding::border, "border"},
           {cajal::SamplePadding::reflection, "reflection"})

namespace cajal {
CAJAL_OPTIONS(ShiftOptions, channels, kind, range, learn, round, padding, average)
}  // namespace cajal
