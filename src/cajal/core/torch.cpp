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

#if !CAJAL_TORCH_AT_LEAST(2, 5)
namespace {

// Queries of a block whose scores are kept at a time where no gradient needs them.
constexpr int64_t kQueryBlock = 128;

// Which keys come after each query; the first query stands at `first` among the keys.
torch::Tensor future_of(const torch::Tensor& q, const torch::Tensor& k, int64_t first) {
  const auto all = torch::ones({q.size(-2), k.size(-2)}, q.options().dtype(torch::kBool));
  return all.triu(first + 1);
}

// `first`: the position of the first query among the keys, for `causal`.
torch::Tensor plain_attention(const torch::Tensor& q, const torch::Tensor& k,
                              const torch::Tensor& v, const torch::Tensor& bias, bool causal,
                              double scale, int64_t first) {
  auto scores = torch::matmul(q, k.transpose(-1, -2)) * scale;
  if (bias.defined()) scores = scores + bias;
  if (causal) scores = scores.masked_fill(future_of(q, k, first), -INFINITY);
  return torch::matmul(torch::softmax(scores, -1), v);
}

// The same bits where no gradient is wanted: scores are the largest tensor of a pass, and are
// changed in place.
torch::Tensor plain_attention_in_place(const torch::Tensor& q, const torch::Tensor& k,
                                       const torch::Tensor& v, const torch::Tensor& bias,
                                       bool causal, double scale, int64_t first) {
  auto scores = torch::matmul(q, k.transpose(-1, -2)).mul_(scale);
  if (bias.defined()) scores.add_(bias);
  if (causal) scores.masked_fill_(future_of(q, k, first), -INFINITY);
  return torch::matmul(torch::softmax(scores, -1), v);
}

}  // namespace
#endif

torch::Tensor attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                        const torch::Tensor& bias, bool causal, double scale) {
  const int64_t share = q.size(1) / k.size(1);
#if CAJAL_TORCH_AT_LEAST(2, 5)
  return at::scaled_dot_product_attention(
      q, k, v, bias.defined() ? c10::optional<torch::Tensor>(bias) : c10::nullopt, 0.0, causal,
      scale, /*enable_gqa=*/share > 1);
#else
  if (share > 1)
    return attention(q, k.repeat_interleave(share, 1), v.repeat_interleave(share, 1), bias, causal,
                     scale);
  const int64_t queries = q.size(-2);
  const bool gradient = torch::GradMode::is_enabled() &&
                        (q.requires_grad() || k.requires_grad() || v.requires_grad());
  if (gradient || queries <= kQueryBlock) return plain_attention(q, k, v, bias, causal, scale, 0);
  // A block of queries at a time, and of a causal block only the keys that it sees.
  std::vector<torch::Tensor> blocks;
  for (int64_t begin = 0; begin < queries; begin += kQueryBlock) {
    const int64_t end = std::min(queries, begin + kQueryBlock);
    const int64_t keys = causal ? end : k.size(-2);
    auto part = bias.defined() && bias.size(-2) > 1 ? bias.slice(-2, begin, end) : bias;
    if (part.defined() && causal && part.size(-1) > 1) part = part.slice(-1, 0, keys);
    blocks.push_back(plain_attention_in_place(q.slice(-2, begin, end), k.slice(-2, 0, keys),
                                              v.slice(-2, 0, keys), part, causal, scale, begin));
  }
  return torch::cat(blocks, -2);
#endif
}

}  // namespace cajal
