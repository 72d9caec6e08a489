#pragma once
#include <ATen/cuda/CUDAContext.h>

#include <optional>

#include "cajal/core/torch.h"
#include "cajal/kernels/cuda/transformer.h"

// How tensors become what the kernels take; for ops_cuda.cpp and ops_cuda_heads.cpp alone.
namespace cajal::ops::fused {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;
using Optional = std::optional<Tensor>;  // libtorch's way to say that a tensor may be absent

inline cudaStream_t stream() { return at::cuda::getCurrentCUDAStream().stream(); }

inline cuda::bf16* data(const Tensor& t) {
  return t.defined() ? reinterpret_cast<cuda::bf16*>(t.data_ptr()) : nullptr;
}
inline cuda::bf16* data(const Optional& t) { return t ? data(*t) : nullptr; }
inline float* floats(const Tensor& t) { return t.defined() ? t.data_ptr<float>() : nullptr; }

inline Optional optional(const Tensor& t) { return t.defined() ? Optional(t) : std::nullopt; }
inline Tensor or_undefined(const Optional& t) { return t ? *t : Tensor(); }

inline Tensor workspace(const Tensor& like, int64_t count) {
  return at::empty({count}, like.options().dtype(torch::kFloat));
}

// A parameter as the kernels want it: bf16, contiguous, 16-byte aligned.
inline Tensor prepared(const Tensor& t) {
  if (!t.defined()) return t;
  auto out = t.to(torch::kBFloat16).contiguous();
  return reinterpret_cast<uintptr_t>(out.data_ptr()) % 16 == 0 ? out : out.clone();
}

inline Tensor rows_of(const Tensor& x) { return x.reshape({-1, x.size(-1)}).contiguous(); }

inline Tensor with_last(const Tensor& flat, torch::IntArrayRef sizes, int64_t last) {
  auto shape = sizes.vec();
  shape.back() = last;
  return flat.view(shape);
}

// The gradient of a weight in the layout of the weight, so that autograd keeps it without a copy.
inline Tensor weight_gradient(const Tensor& dy, const Tensor& x, bool transposed) {
  return transposed ? at::mm(x.t(), dy).t() : at::mm(dy.t(), x);
}

}  // namespace cajal::ops::fused
