#pragma once
#include "cajal/core/torch.h"

namespace cajal {

/// Cross-correlation of every channel with a kernel of its own, nothing padded.
/// Shapes: x [batch, channels, height, width], kernels [channels, kernel_height, kernel_width] ->
/// y [batch, channels, height - kernel_height + 1, width - kernel_width + 1].
/// The same as torch::conv2d with a group a channel; on the CPU several times as fast where
/// channels are few. Throws Error for kernels that do not fit.
torch::Tensor depthwise_convolution(const torch::Tensor& x, const torch::Tensor& kernels);

}  // namespace cajal
