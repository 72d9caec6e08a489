#pragma once
// Not <torch/torch.h>: its ready-made modules, optimisers and data loaders double the time that
// every file takes to compile. A file that uses those includes <torch/nn.h> or <torch/optim.h>
// itself.
#include <torch/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/cuda.h>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>
#include <torch/utils.h>
#include <torch/version.h>

#include <cstdint>
#include <string>
#include <vector>

// The one bridge to libtorch: differences between its versions live here and nowhere else.
#define CAJAL_TORCH_AT_LEAST(major, minor) \
  (TORCH_VERSION_MAJOR > (major) ||        \
   (TORCH_VERSION_MAJOR == (major) && TORCH_VERSION_MINOR >= (minor)))

namespace cajal {

/// Seeds every generator of libtorch.
void seed_everything(uint64_t seed);

/// Threads that libtorch uses inside one operation; 0 = every processor this process may use
/// (libtorch 1.13 alone would take half of them).
void set_torch_threads(int threads);

/// "cuda" when this build and machine have one, else "cpu"; or the device that `name` names.
/// Throws Error when that device is not there.
torch::Device pick_device(const std::string& name = "auto");

/// "[2, 3, 4]" for use in messages.
std::string shape_text(torch::IntArrayRef sizes);

/// softmax(q kᵀ · scale + bias) v without keeping the scores where libtorch can do that.
/// q [batch, heads, queries, d], k and v [batch, heads or a divisor of it, keys, d], where each of
/// fewer key heads serves a run of query heads; `bias` broadcasts to
/// [batch, heads, queries, keys] or is undefined; `causal` lets query i see keys up to i (queries =
/// keys).
torch::Tensor attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                        const torch::Tensor& bias, bool causal, double scale);

}  // namespace cajal
