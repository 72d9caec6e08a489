#include "cajal/core/torch.h"

#include <ATen/Parallel.h>
#include <dlfcn.h>

#include <cmath>

#include "cajal/core/error.h"
#include "cajal/core/threads.h"

namespace cajal {

void seed_everything(uint64_t seed) { torch::manual_seed(seed); }

void set_torch_threads(int threads) {
  if (threads <= 0) threads = available_processors();
  at::set_num_threads(threads);
  // OpenBLAS keeps threads of its own, which libtorch does not count.
  using SetThreads = void (*)(int);
  static const auto set =
      reinterpret_cast<SetThreads>(dlsym(RTLD_DEFAULT, "openblas_set_num_threads"));
  if (set) set(threads);
}

torch::Device pick_device(const std::string& name) {
  if (name == "auto") return torch::cuda::is_available() ? torch::kCUDA : torch::kCPU;
  torch::Device device(torch::kCPU);
  try {
    device = torch::Device(name);
  } catch (const c10::Error&) {
    fail("device '{}': expected auto, cpu, cuda or cuda:N", name);
  }
  require(device.is_cpu() || device.is_cuda(), "device '{}': expected auto, cpu, cuda or cuda:N",
          name);
  require(device.is_cpu() || (torch::cuda::is_available() &&
                              device.index() < static_cast<int>(torch::cuda::device_count())),
          "device '{}': this machine or build has no such device", name);
  return device;
}

std::string shape_text(torch::IntArrayRef sizes) {
  return fmt::format("[{}]", fmt::join(sizes.begin(), sizes.end(), ", "));
}

torch::Tensor attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                        const torch::Tensor& bias, bool causal, double scale) {
#if CAJAL_TORCH_AT_LEAST(2, 1)
  return at::scaled_dot_product_attention(
      q, k, v, bias.defined() ? c10::optional<torch::Tensor>(bias) : c10::nullopt, 0.0, causal,
      scale);
#else
  auto scores = torch::matmul(q, k.transpose(-1, -2)) * scale;
  if (bias.defined()) scores = scores + bias;
  if (causal) {
    const auto queries = q.size(-2);
    const auto future = torch::ones({queries, queries}, q.options().dtype(torch::kBool)).triu(1);
    scores = scores.masked_fill(future, -INFINITY);
  }
  return torch::matmul(torch::softmax(scores, -1), v);
#endif
}

}  // namespace cajal
