#include "cajal/layers/vision/depthwise.h"

#include <vector>

#include "cajal/core/error.h"
#include "cajal/kernels/correlate.h"

namespace cajal {
namespace {

using torch::Tensor;

/// All pictures of a channel stand behind each other as one line, so that an element of the kernel
/// is one pass over the line, shifted. Where a shift runs over an edge of a picture it computes
/// what nobody reads.
struct Lines {
  Tensor planes;                 // [channels, batch, height, width]
  std::vector<int64_t> offsets;  // of the kernel's elements
  int64_t kernel_height, kernel_width;
  int64_t length;  // of what is summed, in a line

  Lines(const Tensor& x, const Tensor& kernels)
      : planes(turned(x)), kernel_height(kernels.size(1)), kernel_width(kernels.size(2)) {
    for (int64_t i = 0; i < kernel_height; ++i)
      for (int64_t j = 0; j < kernel_width; ++j) offsets.push_back(i * planes.size(3) + j);
    length = planes[0].numel() - offsets.back();
  }

  /// [batch, channels, ...] as [channels, batch, ...], and back.
  static Tensor turned(const Tensor& x) { return x.transpose(0, 1).contiguous(); }

  /// What is read of planes that were summed.
  Tensor corner(const Tensor& sums) const {
    return sums.slice(2, 0, sums.size(2) - kernel_height + 1)
        .slice(3, 0, sums.size(3) - kernel_width + 1);
  }
};

template <class T>
Tensor forward_of(const Lines& at, const Tensor& kernels) {
  const auto sums = torch::zeros_like(at.planes);
  const auto weights = kernels.contiguous();
  for (int64_t c = 0; c < at.planes.size(0); ++c)
    correlate(at.planes[c].data_ptr<T>(), at.offsets, weights[c].data_ptr<T>(), at.length,
              sums[c].data_ptr<T>());
  return Lines::turned(at.corner(sums));
}

/// `above` are gradients, laid out like the planes.
template <class T>
Tensor gradient_of_kernels(const Lines& at, const Tensor& above, const Tensor& kernels) {
  const auto out = torch::zeros_like(kernels, at::MemoryFormat::Contiguous);
  for (int64_t c = 0; c < at.planes.size(0); ++c)
    correlate_sums(at.planes[c].data_ptr<T>(), at.offsets, above[c].data_ptr<T>(), at.length,
                   out[c].data_ptr<T>());
  return out;
}

template <class T>
Tensor gradient_of_x(const Lines& at, const Tensor& above, const Tensor& kernels) {
  const int64_t reach = at.offsets.back(), size = at.planes[0].numel();
  const auto weights = kernels.contiguous();
  const auto line = torch::zeros({reach + size}, above.options());
  std::vector<int64_t> back;
  for (const auto offset : at.offsets) back.push_back(reach - offset);
  const auto below = torch::empty_like(at.planes);
  for (int64_t c = 0; c < at.planes.size(0); ++c) {
    line.slice(0, reach).copy_(above[c].flatten());
    correlate(line.data_ptr<T>(), back, weights[c].data_ptr<T>(), size, below[c].data_ptr<T>());
  }
  return Lines::turned(below);
}

class Depthwise : public torch::autograd::Function<Depthwise> {
 public:
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& x,
                        const Tensor& kernels) {
    context->save_for_backward({x, kernels});
    const Lines at(x, kernels);
    return x.scalar_type() == torch::kFloat ? forward_of<float>(at, kernels)
                                            : forward_of<double>(at, kernels);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const auto &x = saved[0], &kernels = saved[1];
    const Lines at(x, kernels);
    const auto above = torch::zeros_like(at.planes);
    at.corner(above).copy_(gradients[0].transpose(0, 1));
    const bool single = x.scalar_type() == torch::kFloat;
    Tensor of_x, of_kernels;
    if (context->needs_input_grad(0))
      of_x = single ? gradient_of_x<float>(at, above, kernels)
                    : gradient_of_x<double>(at, above, kernels);
    if (context->needs_input_grad(1))
      of_kernels = single ? gradient_of_kernels<float>(at, above, kernels)
                          : gradient_of_kernels<double>(at, above, kernels);
    return {of_x, of_kernels};
  }
};

}  // namespace

Tensor depthwise_convolution(const Tensor& x, const Tensor& kernels) {
  require(x.dim() == 4 && kernels.dim() == 3 && x.size(1) == kernels.size(0) &&
              kernels.size(1) <= x.size(2) && kernels.size(2) <= x.size(3),
          "depthwise convolution: x is {}, kernels {}, expected [batch, channels, height, width] "
          "and a smaller [channels, kernel_height, kernel_width]",
          shape_text(x.sizes()), shape_text(kernels.sizes()));
  const auto type = x.scalar_type();
  if (x.is_cpu() && type == kernels.scalar_type() &&
      (type == torch::kFloat || type == torch::kDouble))
    return Depthwise::apply(x, kernels);
  const int64_t unpadded = 0;
  return torch::conv2d(x, kernels.unsqueeze(1), {}, 1, unpadded, 1, x.size(1));
}

}  // namespace cajal
