#include "cajal/train/optimizer_cuda.h"

#ifdef CAJAL_CUDA
#include <ATen/cuda/CUDAContext.h>

#include "cajal/core/error.h"
#include "cajal/kernels/cuda/optimizer.h"

namespace cajal::train::fused {
namespace {

cudaStream_t stream() { return at::cuda::getCurrentCUDAStream().stream(); }

float* at_offset(const torch::Tensor& flat, int64_t offset) {
  return flat.defined() ? flat.data_ptr<float>() + offset : nullptr;
}

}  // namespace

void gather(FlatParameters& parameters, double factor, bool add) {
  std::vector<cuda::GradientSlot> slots;
  for (const auto& slot : parameters.slots()) {
    const auto& gradient = slot.parameter.tensor.grad();
    const bool bf16 = gradient.defined() && gradient.scalar_type() == torch::kBFloat16;
    require(!gradient.defined() ||
                (gradient.is_contiguous() && (bf16 || gradient.scalar_type() == torch::kFloat)),
            "gradient of '{}': expected a contiguous fp32 or bf16 tensor", slot.parameter.name);
    slots.push_back(
        {gradient.defined() ? gradient.data_ptr() : nullptr, slot.offset, slot.count, bf16});
  }
  cuda::gather_gradients(slots.data(), static_cast<int>(slots.size()), static_cast<float>(factor),
                         add, parameters.gradient.data_ptr<float>(), stream());
  // The memory is used again only by work queued behind this.
  for (const auto& slot : parameters.slots()) slot.parameter.tensor.mutable_grad().reset();
}

void clip(const torch::Tensor& gradient, double limit, torch::Tensor& norm_and_factor) {
  const auto scratch = torch::empty({cuda::kNormBlocks}, gradient.options());
  cuda::clip_factor(gradient.data_ptr<float>(), gradient.numel(), static_cast<float>(limit),
                    norm_and_factor.data_ptr<float>(), scratch.data_ptr<float>(), stream());
}

void adamw(FlatParameters& parameters, Optimizer& state, const Options& options, int64_t begin,
           const torch::Tensor& rates, const torch::Tensor& norm_and_factor) {
  const cuda::AdamW constants{static_cast<float>(options.beta1), static_cast<float>(options.beta2),
                              static_cast<float>(options.epsilon),
                              static_cast<float>(options.weight_decay)};
  auto* working = parameters.copies()
                      ? reinterpret_cast<cuda::bf16*>(parameters.working.data_ptr()) + begin
                      : nullptr;
  cuda::adamw(at_offset(parameters.values, begin), at_offset(state.first, begin),
              at_offset(state.second, begin), at_offset(state.average, begin), working,
              at_offset(parameters.gradient, begin), parameters.size() - begin,
              parameters.decayed_end() - begin, constants,
              reinterpret_cast<const cuda::StepRates*>(rates.data_ptr<float>()),
              norm_and_factor.data_ptr<float>() + 1, stream());
  if (begin > 0 && state.average.defined())
    state.average.narrow(0, 0, begin)
        .lerp_(parameters.values.narrow(0, 0, begin), rates.select(0, 3));
}

}  // namespace cajal::train::fused
#endif
